/** Thread: one of the solver's workers: runs kernels over the shared memory. */
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf } from '../../core/errors.ts';
import { instantiateSolver, type SolverExports } from '../../wasm/solver.ts';
import type { Answer } from './threads.ts';

export interface ThreadSetup {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** A kernel by name with its arguments. */
export type KernelCall = {
  [Name in keyof SolverExports]: [Name, ...Parameters<SolverExports[Name]>];
}[keyof SolverExports];

/** kernels: one after another; the result is the last one's. */
export type Task = { kind: 'kernels'; calls: KernelCall[] };

const { module, memory } = workerData as ThreadSetup;
const kernels = instantiateSolver(module, memory);

async function perform(task: Task): Promise<unknown> {
  let result: unknown = null;
  for (const [name, ...args] of task.calls)
    result = (kernels[name] as (...args: unknown[]) => unknown)(...args) ?? null;
  return result;
}

parentPort!.on('message', (task: Task) => {
  const answer = (value: Answer) => parentPort!.postMessage(value);
  perform(task).then(
    (result) => answer({ result }),
    (error) => answer({ failure: failureOf(error) }),
  );
});
