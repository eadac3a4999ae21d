/** Steps: a model's prefill and decode steps, timed as the engine runs them, the greedy choice of tokens included. */
import { makeBatch } from '../../core/engine/batch.ts';
import { PAGE_TOKENS } from '../../core/engine/engine.ts';
import { type KvDtype, kvBytesPerToken, type TopLogits } from '../../core/model/backend.ts';
import type { Graph } from '../../core/model/graph.ts';
import { RandomWords } from './random-words.ts';

interface Line {
  ids: number[];
  pageIds: number[];
}

export interface StepsOptions {
  /** Sequences that decode together at most. */
  batch: number;
  /** Tokens that a sequence has at most. */
  tokens: number;
  /** Tokens in one prefill step; a longer prompt takes several. */
  chunkTokens: number;
  kvDtype: KvDtype;
  seed: number;
}

/** One a graph: it takes the backend's key/value pages. */
export class Steps {
  readonly #graph: Graph;
  readonly #options: StepsOptions;
  readonly #lines: Line[];

  constructor(graph: Graph, options: StepsOptions) {
    this.#graph = graph;
    this.#options = options;
    const { layers, kvHeads, headDim, vocabSize } = graph.config;
    const pagesEach = Math.ceil(options.tokens / PAGE_TOKENS);
    const random = new RandomWords(options.seed);
    this.#lines = Array.from({ length: options.batch }, (_, line) => ({
      ids: [...random.integers(options.tokens, vocabSize)],
      pageIds: Array.from({ length: pagesEach }, (_, page) => line * pagesEach + page),
    }));
    const pages = pagesEach * options.batch;
    const dtype = options.kvDtype;
    graph.backend.allocateKv({ layers, kvHeads, headDim, pages, pageTokens: PAGE_TOKENS, dtype });
  }

  /** Fills the first `tokens` places of so many sequences. Milliseconds until the token after each is known. */
  async prefill(tokens: number, sequences: number): Promise<number> {
    const started = performance.now();
    const { chunkTokens } = this.#options;
    for (const line of this.#lines.slice(0, sequences))
      for (let from = 0; from < tokens; from += chunkTokens)
        await this.#step([line], from, Math.min(chunkTokens, tokens - from), tokens, tokens);
    return performance.now() - started;
  }

  /** Decodes `steps` tokens of so many sequences, each from place `context`, whatever lay there. What came of each step. */
  async decode(context: number, steps: number, sequences: number): Promise<{ ms: number; ids: number[][] }> {
    const lines = this.#lines.slice(0, sequences);
    const ids: number[][] = [];
    const started = performance.now();
    for (let step = 0; step < steps; step++) {
      const top = await this.#step(lines, context + step, 1, context + step + 1, context + steps);
      ids.push([...top!.ids]);
      // The likeliest token goes in at the next place, as in an answer.
      lines.forEach((line, i) => {
        if (context + step + 1 < line.ids.length) line.ids[context + step + 1] = top!.ids[i]!;
      });
    }
    return { ms: performance.now() - started, ids };
  }

  /** Bytes that one decode step reads: weights once, and the keys and values of each sequence at a mean place. */
  stepBytes(context: number, steps: number, sequences: number): { weights: number; keyValues: number } {
    const { config, stepWeightBytes } = this.#graph;
    const seen = context + (steps + 1) / 2;
    const perToken = kvBytesPerToken({ ...config, dtype: this.#options.kvDtype });
    return { weights: stepWeightBytes, keyValues: Math.round(sequences * seen * perToken) };
  }

  /** The next `count` tokens of each line, whose sequence is `length` long so far; what comes next where that reaches its end. */
  async #step(lines: Line[], from: number, count: number, length: number, planned: number): Promise<TopLogits | null> {
    const chunks = lines.map(({ ids, pageIds }) => ({
      sequence: { ids: ids.slice(0, length), numCachedTokens: from, pageIds, plannedTokens: planned },
      count,
    }));
    const logits = this.#graph.enqueue(makeBatch(chunks, PAGE_TOKENS, 'ends'));
    return logits === null ? null : this.#graph.backend.top(logits, 1, new Float32Array(lines.length));
  }
}
