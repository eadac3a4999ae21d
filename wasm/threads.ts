/// <reference types="node" />
/**
 * Threads: a team of Node's worker threads over one shared memory. The protocol is assembly/team.ts. A step that its caller does faster alone is done
 * alone (step-choice.ts): any number of threads gives the same bits.
 */
import { Worker } from 'node:worker_threads';
import type { KernelArguments, KernelName, Kernels, KernelTask } from './kernels.ts';
import { instantiateKernels, kernelOrder } from './kernels.ts';
import type { KernelMemory } from './memory.ts';
import type { StepChoice, StepWay } from './step-choice.ts';
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

/** Of any last word but END. `index` is the kernel's place in kernelOrder. */
export function kernelOf(lastWord: number): { index: number; isFollowed: boolean } {
  return { index: lastWord & (FOLLOWED - 1), isFollowed: (lastWord & FOLLOWED) !== 0 };
}

/** StepChoice's, for one team. */
export type WayChoice = Pick<StepChoice, 'choose' | 'record'>;

interface BegunStep {
  tokens: number;
  way: StepWay;
  begunMs: number;
  /** When all tasks so far were done; null while that is not known. */
  settledMs: number | null;
}

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
  readonly #choice: WayChoice | null;
  #published = 0;
  /** null before the first and in between, where nothing is measured. */
  #step: BegunStep | null = null;

  private constructor(kernels: Kernels, memory: WebAssembly.Memory, workers: Worker[], choice: WayChoice | null) {
    this.#choice = choice;
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
   * `choice` tells which steps the caller does alone; null: none.
   */
  static async start(
    module: WebAssembly.Module,
    memory: KernelMemory,
    threads: number,
    choice: WayChoice | null,
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
    return new ThreadTeam(kernels, memory.memory, workers, choice);
  }

  begin(tokens: number): void {
    // What was settled long ago keeps its time: what lies between steps is not theirs.
    if (this.#step?.settledMs == null) this.settle();
    if (this.#step !== null) {
      const { way, begunMs, settledMs } = this.#step;
      this.#choice?.record(this.#step.tokens, way, settledMs! - begunMs);
    }
    this.#step = null;
    if (this.#choice === null || tokens === 0) return;
    this.#step = { tokens, way: this.#choice.choose(tokens), begunMs: performance.now(), settledMs: null };
  }

  run<Name extends KernelName>(name: Name, ...task: KernelArguments[Name]): void {
    this.runTogether([{ name, words: task } as KernelTask]);
  }

  runTogether(tasks: readonly KernelTask[]): void {
    const isAlone = this.#step?.way === 'alone';
    if (this.#step !== null) this.#step.settledMs = null;
    const slots = this.#write(tasks);
    if (!isAlone) this.#publish();
    tasks.forEach(({ name }, at) => {
      this.#kernels[name](slots[at]!.address, 0, isAlone ? 1 : this.threads);
    });
  }

  settle(): void {
    this.#kernels.settle(CONTROL_ADDRESS, this.threads);
    if (new Int32Array(this.#memory.buffer)[FAILED_ADDRESS / 4] !== 0) throw impossible('a kernel trapped on a thread');
    if (this.#step !== null) this.#step.settledMs = performance.now();
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
