/** Team: who runs the kernels. One thread here; several in threads.ts. */
import type { KernelArguments, KernelName, Kernels, KernelTask } from './kernels.ts';

export interface Team {
  readonly threads: number;
  /** A step of so many tokens begins; 0: something else, which all threads are to share. Waits as `settle` does. */
  begin(tokens: number): void;
  /** Runs after every task given before; others' shares may end after it returns. */
  run<Name extends KernelName>(name: Name, ...task: KernelArguments[Name]): void;
  /** The same for up to MAX_TOGETHER tasks of which none needs what another writes: no thread waits between them. */
  runTogether(tasks: readonly KernelTask[]): void;
  /** Waits until all that was given is done: before memory is read, or written other than by a kernel. */
  settle(): void;
  dispose(): Promise<void>;
}

/** Tasks lie in the first page of memory, which the compiler leaves empty. */
export const TASK_ADDRESS = 4096;
/** 31 arguments, and in the last word what threads.ts keeps there. */
export const TASK_BYTES = 128;
export const MAX_TOGETHER = 4;

/** One task's words in memory, wherever its buffer is. */
export class TaskSlot {
  readonly address: number;
  readonly #memory: WebAssembly.Memory;
  #words: Int32Array;

  constructor(memory: WebAssembly.Memory, address: number) {
    this.#memory = memory;
    this.address = address;
    this.#words = new Int32Array(memory.buffer, address, TASK_BYTES / 4);
  }

  write(task: readonly number[], lastWord = 0): void {
    // Growing detaches the buffer.
    if (this.#words.length === 0) this.#words = new Int32Array(this.#memory.buffer, this.address, TASK_BYTES / 4);
    for (let i = 0; i < task.length; i++) this.#words[i] = task[i]!;
    this.#words[TASK_BYTES / 4 - 1] = lastWord;
  }
}

export class SingleThread implements Team {
  readonly threads = 1;
  readonly #kernels: Kernels;
  readonly #slot: TaskSlot;

  constructor(kernels: Kernels, memory: WebAssembly.Memory) {
    this.#kernels = kernels;
    this.#slot = new TaskSlot(memory, TASK_ADDRESS);
  }

  begin(_tokens: number): void {}

  run<Name extends KernelName>(name: Name, ...task: KernelArguments[Name]): void {
    this.#runOne(name, task);
  }

  runTogether(tasks: readonly KernelTask[]): void {
    for (const { name, words } of tasks) this.#runOne(name, words);
  }

  settle(): void {}

  async dispose(): Promise<void> {}

  #runOne(name: KernelName, words: readonly number[]): void {
    this.#slot.write(words);
    this.#kernels[name](this.#slot.address, 0, 1);
  }
}
