/** Scheduler: which tokens the next step computes. Decodes first, then prefill chunks, under one token budget; preempts by recompute. */
import type { KvPages } from './kv-pages.ts';
import type { Sequence } from './sequence.ts';

export interface SchedulerLimits {
  /** Tokens in one step. */
  maxBatchTokens: number;
  /** Sequences that run at once. */
  maxSequences: number;
}

/** `count` tokens of a sequence, from its first uncached one. */
export interface Chunk {
  sequence: Sequence;
  count: number;
}

/**
 * Fair by age: a sequence keeps its place in `running`, and when pages run out the youngest gives its own up and waits at the head of the line.
 * Progress: the oldest sequence always gets pages, because the engine refuses a sequence that all pages together could not hold.
 */
export class Scheduler {
  readonly #pages: KvPages;
  readonly #limits: SchedulerLimits;
  readonly #waiting: Sequence[] = [];
  /** In order of age. */
  readonly #running: Sequence[] = [];

  constructor(pages: KvPages, limits: SchedulerLimits) {
    this.#pages = pages;
    this.#limits = limits;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }
  get numRunning(): number {
    return this.#running.length;
  }

  add(sequence: Sequence): void {
    this.#waiting.push(sequence);
  }

  /** Takes the sequence out, wherever it is, and frees its pages. */
  remove(sequence: Sequence): void {
    for (const line of [this.#waiting, this.#running]) {
      const at = line.indexOf(sequence);
      if (at >= 0) line.splice(at, 1);
    }
    this.#pages.release(sequence.pageIds);
  }

  /** Every running sequence gives up its pages and waits, the oldest first: what the cache held is gone. */
  preemptAll(): void {
    for (const sequence of [...this.#running].reverse()) this.#preempt(sequence);
  }

  /** The next step's chunks, with pages reserved for them. Empty when there is nothing to do. */
  next(): Chunk[] {
    const chunks: Chunk[] = [];
    let budget = this.#limits.maxBatchTokens;
    const uncached = (sequence: Sequence) => sequence.ids.length - sequence.numCachedTokens;

    // Decodes before prefills, so that a long prompt never stalls the streams that already flow.
    const decoding = this.#running.filter((sequence) => uncached(sequence) === 1);
    const prefilling = this.#running.filter((sequence) => uncached(sequence) > 1);
    for (const sequence of [...decoding, ...prefilling]) {
      if (budget === 0) break;
      if (!this.#running.includes(sequence)) continue; // preempted below
      const count = Math.min(uncached(sequence), budget);
      if (!this.#growOrPreempt(sequence, sequence.numCachedTokens + count, chunks)) continue;
      chunks.push({ sequence, count });
      budget -= count;
    }
    while (budget > 0 && this.#running.length < this.#limits.maxSequences && this.#waiting.length > 0) {
      const sequence = this.#waiting[0]!;
      const count = Math.min(uncached(sequence), budget);
      // All of the prompt must fit, and a page to answer in: else it would start only to be preempted.
      if (this.#pages.pagesFor(sequence.ids.length + 1) > this.#pages.freePages) break;
      if (!this.#pages.grow(sequence.pageIds, count)) break;
      this.#waiting.shift();
      this.#running.push(sequence);
      chunks.push({ sequence, count });
      budget -= count;
    }
    return chunks;
  }

  /** Finds pages for `sequence`, taking them from the youngest running ones. False when it had to give way itself. */
  #growOrPreempt(sequence: Sequence, tokens: number, chunks: Chunk[]): boolean {
    while (!this.#pages.grow(sequence.pageIds, tokens)) {
      const youngest = this.#running[this.#running.length - 1]!;
      this.#preempt(youngest);
      const planned = chunks.findIndex((chunk) => chunk.sequence === youngest);
      if (planned >= 0) chunks.splice(planned, 1);
      if (youngest === sequence) return false;
    }
    return true;
  }

  #preempt(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1);
    this.#pages.release(sequence.pageIds);
    sequence.numCachedTokens = 0;
    this.#waiting.unshift(sequence);
  }
}
