/** Scorer: log probabilities of given tokens (teacher forcing), for perplexity and for comparing backends. */
import type { KvDtype } from '../model/backend.ts';
import type { Graph } from '../model/graph.ts';
import { makeBatch } from './batch.ts';
import { PAGE_TOKENS } from './engine.ts';
import { KvPages } from './kv-pages.ts';
import { logprobOf } from './sampler.ts';

/** Tokens in one forward pass: enough to reuse weights, few enough that [tokens, vocab] logits stay small. */
const CHUNK_TOKENS = 128;

/** One scorer a graph: it takes the backend's key/value pages. */
export class Scorer {
  readonly #graph: Graph;
  readonly #pages: KvPages;

  constructor(graph: Graph, maxTokens: number, kvDtype: KvDtype | null = null) {
    this.#graph = graph;
    this.#pages = new KvPages(Math.ceil(maxTokens / PAGE_TOKENS), PAGE_TOKENS);
    const { layers, kvHeads, headDim } = graph.config;
    const { backend } = graph;
    const dtype = kvDtype ?? backend.defaultKvDtype;
    backend.allocateKv({ layers, kvHeads, headDim, pages: this.#pages.pages, pageTokens: PAGE_TOKENS, dtype });
  }

  /** Calls `onRow` with the logits [vocab] after each of `ids`, in order. The row is valid during the call only. */
  async logits(ids: readonly number[], onRow: (logits: Float32Array, position: number) => void): Promise<void> {
    const { vocabSize } = this.#graph.config;
    const pageIds: number[] = [];
    if (!this.#pages.grow(pageIds, ids.length))
      throw new Error(`${ids.length} tokens do not fit ${this.#pages.pages} pages`);
    try {
      for (let start = 0; start < ids.length; start += CHUNK_TOKENS) {
        const count = Math.min(CHUNK_TOKENS, ids.length - start);
        const sequence = { ids, numCachedTokens: start, pageIds, plannedTokens: ids.length };
        const batch = makeBatch([{ sequence, count }], PAGE_TOKENS, 'all');
        const rows = await this.#graph.forward(batch);
        for (let i = 0; i < count; i++) onRow(rows.subarray(i * vocabSize, (i + 1) * vocabSize), start + i);
      }
    } finally {
      this.#pages.release(pageIds);
    }
  }

  /** Natural log probability of each id given those before it: ids.length − 1 numbers. */
  async logprobs(ids: readonly number[]): Promise<number[]> {
    const result: number[] = [];
    await this.logits(ids, (row, position) => {
      const next = ids[position + 1];
      if (next !== undefined) result.push(logprobOf(row, next));
    });
    return result;
  }
}
