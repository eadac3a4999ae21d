/// <reference types="node" />
/**
 * Threads: a team of Node's worker threads over one shared memory. The protocol is assembly/team.ts. A team that waits more than it
 * works, because others have the processors, leaves its threads asleep for a while: any number of them gives the same bits.
 */
import { Worker } from 'node:worker_threads';
import type { KernelArguments, KernelName, Kernels, KernelTask } from './kernels.ts';
import { instantiateKernels, kernelOrder } from './kernels.ts';
import type { KernelMemory } from './memory.ts';
import { MAX_TOGETHER, TASK_ADDRESS, TASK_BYTES, TaskSlot, type Team } from './team.ts';
import { impossible } from './tensors.ts';

/** The tasks that are published together: two sets in turn, so that one can be written while the other is worked on. */
const SET_BYTES = MAX_TOGETHER * TASK_BYTES;
/** Behind the two sets. 4 KiB hold the words of 60 threads; behind these are the ranges of assembly/pieces.ts. */
export const CONTROL_ADDRESS = TASK_ADDRESS + 2 * SET_BYTES;
/** Word behind the published one: set by a thread whose kernel trapped. */
export const FAILED_ADDRESS = CONTROL_ADDRESS + 32;
export const MAX_THREADS = 60;
/** A task's last word when the threads are to end; otherwise it names the kernel, and says whether another task follows in the set. */
export const END = -1;
const FOLLOWED = 0x100;

export function setAddress(published: number): number {
  return TASK_ADDRESS + (published & 1) * SET_BYTES;
}

/** `index` is the kernel's place in kernelOrder. */
export function kernelOf(lastWord: number): { index: number; isFollowed: boolean } {
  return { index: lastWord & (FOLLOWED - 1), isFollowed: lastWord !== END && (lastWord & FOLLOWED) !== 0 };
}

/** Tasks after which a team sees what waiting cost it. */
const WINDOW_TASKS = 256;
/** Tasks that the caller then runs alone, twice as many each time in a row, up to 2^6 times. */
const ALONE_TASKS = 1024;
/** The part of the time that it would take alone which a team may take. */
const LEAST_SAVING = 0.85;

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
  readonly #sets: [TaskSlot[], TaskSlot[]];
  readonly #workers: Worker[];
  readonly #now: (() => number) | null;
  #published = 0;
  #aloneTasks = 0;
  #timesAlone = 0;
  #windowTasks = 0;
  #workedMs = 0;
  #waitedMs = 0;

  private constructor(kernels: Kernels, memory: WebAssembly.Memory, workers: Worker[], now: (() => number) | null) {
    this.#now = now;
    this.threads = workers.length + 1;
    this.#kernels = kernels;
    this.#memory = memory;
    this.#order = new Map(kernelOrder(kernels).map((name, index) => [name, index]));
    const slotsOf = (set: number) =>
      Array.from({ length: MAX_TOGETHER }, (_, at) => new TaskSlot(memory, setAddress(set) + at * TASK_BYTES));
    this.#sets = [slotsOf(0), slotsOf(1)];
    this.#workers = workers;
  }

  /**
   * `module` must take shared memory (memory-import.ts). Threads do not keep the process alive.
   * `now` in milliseconds, by which a team sees that it waits; null: it never works alone.
   */
  static async start(
    module: WebAssembly.Module,
    memory: KernelMemory,
    threads: number,
    now: (() => number) | null,
  ): Promise<ThreadTeam> {
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
    return new ThreadTeam(kernels, memory.memory, workers, now);
  }

  run<Name extends KernelName>(name: Name, ...task: KernelArguments[Name]): void {
    this.runTogether([{ name, words: task } as KernelTask]);
  }

  runTogether(tasks: readonly KernelTask[]): void {
    const isAlone = this.#aloneTasks > 0;
    const now = isAlone ? null : this.#now;
    const start = now?.() ?? 0;
    const slots = this.#write(tasks);
    if (isAlone) this.#aloneTasks--;
    else this.#publish();
    const published = now?.() ?? 0;
    const parts = isAlone ? 1 : this.threads;
    tasks.forEach(({ name }, at) => {
      this.#kernels[name](slots[at]!.address, 0, parts);
    });
    if (now !== null) this.#account(published - start, now() - published);
  }

  /** One task's waiting for the one before, and its own part's work. */
  #account(waitedMs: number, workedMs: number): void {
    this.#waitedMs += waitedMs;
    this.#workedMs += workedMs;
    if (++this.#windowTasks < WINDOW_TASKS) return;
    if (this.#workedMs + this.#waitedMs > LEAST_SAVING * this.threads * this.#workedMs) {
      this.settle();
      this.#aloneTasks = ALONE_TASKS << this.#timesAlone;
      this.#timesAlone = Math.min(6, this.#timesAlone + 1);
    } else this.#timesAlone = 0;
    this.#windowTasks = 0;
    this.#workedMs = 0;
    this.#waitedMs = 0;
  }

  settle(): void {
    this.#kernels.settle(CONTROL_ADDRESS, this.threads);
    if (new Int32Array(this.#memory.buffer)[FAILED_ADDRESS / 4] !== 0) throw impossible('a kernel trapped on a thread');
  }

  async dispose(): Promise<void> {
    if (this.#workers.length === 0) return;
    const ended = this.#workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    for (const worker of this.#workers) worker.ref();
    this.#sets[(this.#published + 1) & 1]![0]!.write([], END);
    this.#publish();
    this.#workers.length = 0;
    await Promise.all(ended);
  }

  /** Into the set that is not worked on: its tasks before these are done, for those in between were published after them. */
  #write(tasks: readonly KernelTask[]): TaskSlot[] {
    if (tasks.length > MAX_TOGETHER) throw impossible(`${tasks.length} tasks together`);
    const slots = this.#sets[(this.#published + 1) & 1]!;
    tasks.forEach(({ name, words }, at) => {
      slots[at]!.write(words, this.#order.get(name)! | (at + 1 < tasks.length ? FOLLOWED : 0));
    });
    return slots;
  }

  #publish(): void {
    this.#published = this.#kernels.publish(CONTROL_ADDRESS, this.threads);
  }
}

function ready(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('error', reject);
    worker.once('exit', () => reject(impossible('a thread ended before it began')));
  });
}
