/** Thread: one of quantization's workers: runs the solver's kernels over the shared memory, and sequences through a layer on a backend of its own. */
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf } from '../../core/errors.ts';
import { loadWasmBackend } from '../../wasm/node.ts';
import { instantiateSolver, type SolverExports } from '../../wasm/solver.ts';
import { embedSequences, LayerForward } from './layer-forward.ts';
import { type LayerSource, openSource } from './layer-source.ts';
import { panelStride, panelsOf } from './panels.ts';
import type { Answer } from './threads.ts';

export interface ThreadSetup {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** A kernel by name with its arguments. */
export type KernelCall = {
  [Name in keyof SolverExports]: [Name, ...Parameters<SolverExports[Name]>];
}[keyof SolverExports];

export interface LayerTask {
  kind: 'layer';
  /** The layer's weights stay until a task of another pass comes. */
  pass: number;
  source: LayerSource;
  layer: number;
  maxTokens: number;
  tokens: number;
  /** [tokens, hidden] of one sequence, in shared memory. */
  hidden: Float32Array;
  /** null: `hidden` is taken through the layer. Else it stays, and the inputs of the linears are put into panels at these addresses. */
  capture: { names: readonly string[]; raw: number; panels: readonly number[] } | null;
}

export type Task =
  /** One after another; the result is the last one's. */
  | { kind: 'kernels'; calls: KernelCall[] }
  | { kind: 'embed'; source: LayerSource; sequences: readonly (readonly number[])[]; buffers: readonly Float32Array[] }
  | LayerTask;

const { module, memory } = workerData as ThreadSetup;
const kernels = instantiateSolver(module, memory);
let loaded: { pass: number; forward: LayerForward } | null = null;

async function perform(task: Task): Promise<unknown> {
  switch (task.kind) {
    case 'kernels': {
      let result: unknown = null;
      for (const [name, ...args] of task.calls)
        result = (kernels[name] as (...args: unknown[]) => unknown)(...args) ?? null;
      return result;
    }
    case 'embed': {
      const { files, ...opened } = await openSource(task.source);
      const backend = await loadWasmBackend();
      await embedSequences({ ...opened, backend }, task.sequences, (rows, i) => task.buffers[i]!.set(rows));
      await files.close();
      return null;
    }
    case 'layer': {
      const forward = await forwardOf(task);
      if (task.capture === null) task.hidden.set(await forward.run(task.hidden));
      else placePanels(await forward.inputsOf(task.capture.names, task.hidden), task.capture, task.tokens);
      return null;
    }
    default:
      return task satisfies never;
  }
}

async function forwardOf({ pass, source, layer, maxTokens }: LayerTask): Promise<LayerForward> {
  if (loaded?.pass === pass) return loaded.forward;
  await loaded?.forward.dispose();
  loaded = null;
  const { files, ...opened } = await openSource(source);
  const forward = await LayerForward.load({ ...opened, backend: await loadWasmBackend() }, layer, maxTokens);
  await files.close();
  loaded = { pass, forward };
  return forward;
}

/** inputs: [tokens, columns] each. */
function placePanels(
  inputs: readonly Float32Array[],
  { raw, panels }: NonNullable<LayerTask['capture']>,
  tokens: number,
): void {
  for (const [i, input] of inputs.entries()) {
    const columns = input.length / tokens;
    new Float32Array(memory.buffer, raw, input.length).set(input);
    for (const [first, count] of panelsOf(tokens))
      kernels.pack_panels(raw + first * columns * 4, panels[i]! + first * panelStride(columns) * 4, count, columns);
  }
}

parentPort!.on('message', (task: Task) => {
  const answer = (value: Answer) => parentPort!.postMessage(value);
  perform(task).then(
    (result) => answer({ result }),
    (error) => answer({ failure: failureOf(error) }),
  );
});
