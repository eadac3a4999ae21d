/** Collector: reads a queue's jobs again and again during a run, since a queue forgets an ended job after ten minutes. */
import { setTimeout as wait } from 'node:timers/promises';
import { type Ask, readQueue } from '../../gpu-worker/books.ts';
import type { KeptJob } from '../../gpu-worker/reconcile.ts';

/** Well below those ten minutes. */
const EVERY_MS = 120_000;

export class Collector {
  readonly #ask: Ask;
  readonly #models: readonly string[];
  readonly #jobs = new Map<string, KeptJob>();
  readonly #stop = new AbortController();
  #loop: Promise<void> | null = null;

  constructor(ask: Ask, models: readonly string[]) {
    this.#ask = ask;
    this.#models = models;
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** Every job that was seen, as it was seen last. */
  async all(): Promise<KeptJob[]> {
    for (const model of this.#models)
      for (const job of await readQueue(this.#ask, model)) this.#jobs.set(job.jobId, job);
    return [...this.#jobs.values()];
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await wait(EVERY_MS, null, { signal }).catch(() => undefined);
      if (!signal.aborted) await this.all();
    }
  }
}
