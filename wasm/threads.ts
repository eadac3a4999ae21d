/// <reference types="node" />
/** Threads: a team of Node's worker threads over one shared memory. The protocol is assembly/team.ts. */
import { Worker } from 'node:worker_threads';
import type { KernelArguments, KernelName, Kernels } from './kernels.ts';
import { instantiateKernels, kernelOrder } from './kernels.ts';
import type { KernelMemory } from './memory.ts';
import { TASK_ADDRESS, TASK_BYTES, TaskSlot, type Team } from './team.ts';
import { impossible } from './tensors.ts';

/** Behind the two tasks. 4 KiB hold the words of 60 threads. */
export const CONTROL_ADDRESS = TASK_ADDRESS + 2 * TASK_BYTES;
/** Word behind the published one: set by a thread whose kernel trapped. */
export const FAILED_ADDRESS = CONTROL_ADDRESS + 32;
export const MAX_THREADS = 60;
/** A task's last word when the threads are to end. */
export const END = -1;

export interface ThreadData {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  part: number;
  parts: number;
}

export class ThreadTeam implements Team {
  readonly threads: number;
  readonly #kernels: Kernels;
  readonly #memory: WebAssembly.Memory;
  readonly #order: Map<KernelName, number>;
  readonly #slots: [TaskSlot, TaskSlot];
  readonly #workers: Worker[];
  #task = 0;

  private constructor(kernels: Kernels, memory: WebAssembly.Memory, workers: Worker[]) {
    this.threads = workers.length + 1;
    this.#kernels = kernels;
    this.#memory = memory;
    this.#order = new Map(kernelOrder(kernels).map((name, index) => [name, index]));
    this.#slots = [new TaskSlot(memory, TASK_ADDRESS), new TaskSlot(memory, TASK_ADDRESS + TASK_BYTES)];
    this.#workers = workers;
  }

  /** `module` must take shared memory (withSharedMemory). They do not keep the process alive. */
  static async start(module: WebAssembly.Module, memory: KernelMemory, threads: number): Promise<ThreadTeam> {
    const kernels = instantiateKernels(module, memory.memory);
    const workers = Array.from({ length: threads - 1 }, (_, index) => {
      const workerData: ThreadData = { module, memory: memory.memory, part: index + 1, parts: threads };
      return new Worker(new URL('./thread.ts', import.meta.url), { workerData, execArgv: [] });
    });
    try {
      await Promise.all(workers.map(ready));
    } catch (error) {
      await Promise.all(workers.map((worker) => worker.terminate()));
      throw error;
    }
    for (const worker of workers) worker.unref();
    return new ThreadTeam(kernels, memory.memory, workers);
  }

  run<Name extends KernelName>(name: Name, ...task: KernelArguments[Name]): void {
    const slot = this.#publish(task, this.#order.get(name)!);
    this.#kernels[name](slot.address, 0, this.threads);
  }

  settle(): void {
    this.#kernels.settle(CONTROL_ADDRESS, this.threads);
    if (new Int32Array(this.#memory.buffer)[FAILED_ADDRESS / 4] !== 0) throw impossible('a kernel trapped on a thread');
  }

  async dispose(): Promise<void> {
    if (this.#workers.length === 0) return;
    const ended = this.#workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    for (const worker of this.#workers) worker.ref();
    this.#publish([], END);
    this.#workers.length = 0;
    await Promise.all(ended);
  }

  #publish(task: readonly number[], lastWord: number): TaskSlot {
    // The slot's task before this one is done: the one in between was published after it.
    const slot = this.#slots[(this.#task + 1) & 1]!;
    slot.write(task, lastWord);
    this.#task = this.#kernels.publish(CONTROL_ADDRESS, this.threads);
    return slot;
  }
}

function ready(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('error', reject);
    worker.once('exit', () => reject(impossible('a thread ended before it began')));
  });
}

/** The same kernels with the memory that they import declared as shared: one bit of the binary. Throws `internal` when it is not there. */
export function withSharedMemory(binary: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  // "env", "memory", kind 2 (memory), and its flags: 1 for a maximum, 3 for shared with a maximum.
  const name = [3, ...Buffer.from('env'), 6, ...Buffer.from('memory'), 2, 1];
  const at = Buffer.from(binary).indexOf(Buffer.from(name));
  if (at < 0) throw impossible('the kernels import no memory with a maximum');
  const shared = binary.slice();
  shared[at + name.length - 1] = 3;
  return shared;
}
