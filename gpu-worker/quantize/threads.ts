/** Threads: workers that take tasks from one queue. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Failure, NibbleError } from '../../core/errors.ts';
import type { Task, ThreadSetup } from './thread.ts';

/** What a thread answers. */
export type Answer = { result: unknown } | { failure: Failure };

interface Waiting {
  task: Task;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

interface Thread {
  worker: Worker;
  current: Waiting | null;
}

export function defaultThreads(): number {
  return availableParallelism();
}

/** `close` ends every thread; a thread that dies fails its task and all that wait. */
export class Threads {
  readonly count: number;
  readonly #threads: Thread[];
  readonly #queue: Waiting[] = [];
  #dead: Error | null = null;

  constructor(count: number, setup: ThreadSetup) {
    this.count = count;
    this.#threads = Array.from({ length: count }, () => this.#start(setup));
  }

  /** On whichever thread is free first. */
  run<Result>(task: Task): Promise<Result> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#dead !== null) throw this.#dead;
      this.#queue.push({ task, resolve, reject });
      this.#next();
    }) as Promise<Result>;
  }

  async close(): Promise<void> {
    this.#dead ??= new NibbleError({ code: 'internal', reason: 'the threads are closed' });
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #start(setup: ThreadSetup): Thread {
    const worker = new Worker(new URL('./thread.ts', import.meta.url), { workerData: setup });
    const thread: Thread = { worker, current: null };
    worker.on('message', (answer: Answer) => {
      const waiting = thread.current;
      thread.current = null;
      if (waiting !== null && 'failure' in answer) waiting.reject(new NibbleError(answer.failure));
      else waiting?.resolve((answer as { result: unknown }).result);
      this.#next();
    });
    worker.on('error', (error) => this.#fail(error as Error));
    worker.on('exit', (code) => {
      if (this.#dead === null) this.#fail(new Error(`a thread ended with code ${code}`));
    });
    return thread;
  }

  #next(): void {
    for (const thread of this.#threads) {
      if (thread.current !== null) continue;
      const waiting = this.#queue.shift();
      if (waiting === undefined) return;
      thread.current = waiting;
      thread.worker.postMessage(waiting.task);
    }
  }

  #fail(error: Error): void {
    this.#dead = error;
    for (const waiting of [...this.#threads.map(({ current }) => current), ...this.#queue.splice(0)])
      waiting?.reject(error);
  }
}
