/** ThreadPasses: layer passes on WASM, one sequence a thread at a time, each thread with the layer's weights of its own. */
import type { HiddenStates } from './hidden-states.ts';
import { finishAll } from './kernels.ts';
import type { LayerInput } from './layer-linears.ts';
import type { LayerPasses } from './layer-passes.ts';
import type { LayerSource } from './layer-source.ts';
import { panelsOf } from './panels.ts';
import type { KernelCall, LayerTask } from './thread.ts';
import type { WasmKernels } from './wasm-kernels.ts';

export class ThreadPasses implements LayerPasses {
  readonly name = 'wasm';
  readonly #kernels: WasmKernels;
  /** Names a pass: threads keep a layer's weights as long as it stays the same. */
  #pass = 0;

  constructor(kernels: WasmKernels) {
    this.#kernels = kernels;
  }

  async embed(source: LayerSource, sequences: readonly (readonly number[])[], hidden: HiddenStates): Promise<void> {
    // One thread: the table is the largest tensor of many models, and embedding is a copy.
    await this.#kernels.threads.run({
      kind: 'embed',
      source,
      sequences,
      buffers: sequences.map((_, i) => hidden.of(i)),
    });
  }

  async hessians(
    source: LayerSource,
    layer: number,
    inputs: readonly LayerInput[],
    hidden: HiddenStates,
    onSequence: () => void,
  ): Promise<Float32Array[]> {
    const { memory, threads } = this.#kernels;
    const columns = inputs.map(([first]) => first!.columns);
    const sums = columns.map((count) => this.#kernels.hessian(count));
    const raw = Math.max(...columns) * hidden.maxTokens * 4;
    // One sequence more than there are threads, so that a slow one does not hold up the rest.
    const slots = Array.from({ length: Math.min(threads.count * 2, hidden.lengths.length) }, () => ({
      raw: memory.take(raw, 'activations'),
      panels: sums.map(({ stride }) => memory.take(stride * hidden.maxTokens * 4, 'activations')),
    }));
    const task = this.#task(source, layer, hidden);
    for (let start = 0; start < hidden.lengths.length; start += slots.length) {
      const round = hidden.lengths.slice(start, start + slots.length);
      await Promise.all(
        round.map(async (_, i) => {
          const names = inputs.map(([first]) => first!.name);
          await threads.run({ ...task(start + i), capture: { names, ...slots[i]! } });
          onSequence();
        }),
      );
      // Each thread takes every n-th panel and adds the sequences in order: the sums do not depend on who computes them.
      await Promise.all(
        Array.from({ length: threads.count }, (_, thread) => {
          const calls = round.flatMap((tokens, i) =>
            sums.flatMap(({ address, stride }, input): KernelCall[] =>
              panelsOf(tokens).map(([first, count]) => [
                'syrk',
                slots[i]!.panels[input]! + first * stride * 4,
                address,
                count,
                stride,
                thread,
                threads.count,
              ]),
            ),
          );
          return threads.run({ kind: 'kernels', calls });
        }),
      );
    }
    return finishAll(sums, hidden.lengths.length);
  }

  async advance(source: LayerSource, layer: number, hidden: HiddenStates, onSequence: () => void): Promise<void> {
    const task = this.#task(source, layer, hidden);
    await Promise.all(
      hidden.lengths.map(async (_, sequence) => {
        await this.#kernels.threads.run(task(sequence));
        onSequence();
      }),
    );
  }

  close(): Promise<void> {
    return this.#kernels.close();
  }

  #task(source: LayerSource, layer: number, hidden: HiddenStates): (sequence: number) => LayerTask {
    const pass = ++this.#pass;
    const { maxTokens } = hidden;
    return (sequence) => ({
      kind: 'layer',
      pass,
      source,
      layer,
      maxTokens,
      tokens: hidden.lengths[sequence]!,
      hidden: hidden.of(sequence),
      capture: null,
    });
  }
}
