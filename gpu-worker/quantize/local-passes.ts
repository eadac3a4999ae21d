/** LocalPasses: layer passes on one backend in this thread: the reference, or a GPU. */
import type { Backend } from '../../core/model/backend.ts';
import type { HiddenStates } from './hidden-states.ts';
import { finishAll, type HessianSum, type SolverKernels } from './kernels.ts';
import { embedSequences, LayerForward } from './layer-forward.ts';
import type { LayerInput } from './layer-linears.ts';
import type { LayerPasses } from './layer-passes.ts';
import { type LayerSource, openSource } from './layer-source.ts';

export class LocalPasses implements LayerPasses {
  readonly name: string;
  readonly #open: () => Promise<Backend>;
  readonly #kernels: SolverKernels;

  /** `open` gives a fresh backend for every pass, so that no layer's weights outlive it. */
  constructor(name: string, open: () => Promise<Backend>, kernels: SolverKernels) {
    this.name = name;
    this.#open = open;
    this.#kernels = kernels;
  }

  async embed(source: LayerSource, sequences: readonly (readonly number[])[], hidden: HiddenStates): Promise<void> {
    const { files, ...opened } = await openSource(source);
    try {
      await embedSequences({ ...opened, backend: await this.#open() }, sequences, (rows, index) =>
        hidden.of(index).set(rows),
      );
    } finally {
      await files.close();
    }
  }

  async hessians(
    source: LayerSource,
    layer: number,
    inputs: readonly LayerInput[],
    hidden: HiddenStates,
    onSequence: () => void,
  ): Promise<Float32Array[]> {
    const names = inputs.map(([first]) => first!.name);
    const sums: HessianSum[] = inputs.map(([first]) => this.#kernels.hessian(first!.columns));
    await this.#eachSequence(source, layer, hidden, async (forward, sequence) => {
      const captured = await forward.inputsOf(names, hidden.of(sequence));
      for (const [i, x] of captured.entries()) await sums[i]!.add(x);
      onSequence();
    });
    return finishAll(sums, hidden.lengths.length);
  }

  async advance(source: LayerSource, layer: number, hidden: HiddenStates, onSequence: () => void): Promise<void> {
    await this.#eachSequence(source, layer, hidden, async (forward, sequence) => {
      hidden.of(sequence).set(await forward.run(hidden.of(sequence)));
      onSequence();
    });
  }

  async close(): Promise<void> {}

  async #eachSequence(
    source: LayerSource,
    layer: number,
    hidden: HiddenStates,
    run: (forward: LayerForward, sequence: number) => Promise<void>,
  ): Promise<void> {
    const { files, ...opened } = await openSource(source);
    try {
      const forward = await LayerForward.load({ ...opened, backend: await this.#open() }, layer, hidden.maxTokens);
      for (let sequence = 0; sequence < hidden.lengths.length; sequence++) await run(forward, sequence);
      await forward.dispose();
    } finally {
      await files.close();
    }
  }
}
