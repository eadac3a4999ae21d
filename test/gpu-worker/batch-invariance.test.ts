import { describe, expect, test } from 'vitest';
import { makeBatch, type TokenRun } from '../../core/engine/batch.ts';
import { KvPages } from '../../core/engine/kv-pages.ts';
import { uniform } from '../../core/engine/random.ts';
import type { Graph } from '../../core/model/graph.ts';
import { loadDemo } from './demo-model.ts';

const PAGE_TOKENS = 16;

interface Line {
  ids: number[];
  numCachedTokens: number;
  pageIds: number[];
}

/** Runs the chunks as one batch. Returns each chunk's logits [count, vocab], all rows, as bits. */
async function forward(graph: Graph, pages: KvPages, runs: { line: Line; count: number }[]): Promise<Uint32Array[]> {
  for (const { line, count } of runs) expect(pages.grow(line.pageIds, line.numCachedTokens + count)).toBe(true);
  const chunks: TokenRun[] = runs.map(({ line, count }) => ({
    sequence: { ...line, plannedTokens: line.ids.length },
    count,
  }));
  const logits = await graph.forward(makeBatch(chunks, PAGE_TOKENS, 'all'));
  const { vocabSize } = graph.config;
  let row = 0;
  return runs.map(({ line, count }) => {
    line.numCachedTokens += count;
    const bits = new Uint32Array(logits.slice(row * vocabSize, (row + count) * vocabSize).buffer);
    row += count;
    return bits;
  });
}

describe.each([
  ['gptq-int4', 'wasm'],
  ['f16', 'wasm'],
  ['gptq-int4', 'reference'],
] as const)('%s on %s', (variant, backendName) => {
  test('a token’s logits are the same bits in prefill and decode, alone and in any batch', async () => {
    const { graph, backend } = await loadDemo(variant, backendName);
    const pages = new KvPages(64, PAGE_TOKENS);
    const { layers, kvHeads, headDim, vocabSize } = graph.config;
    backend.allocateKv({
      layers,
      kvHeads,
      headDim,
      pages: pages.pages,
      pageTokens: PAGE_TOKENS,
      dtype: backend.defaultKvDtype,
    });
    let draw = 0;
    const below = (n: number) => Math.floor(uniform(11, draw++) * n);
    // Lengths around pages and tiles of rows.
    const texts = [1, 2, 3, 15, 16, 17, 33].map((length) => Array.from({ length }, () => below(vocabSize)));

    const prefilled: Uint32Array[] = [];
    for (const ids of texts) {
      const line: Line = { ids, numCachedTokens: 0, pageIds: [] };
      prefilled.push((await forward(graph, pages, [{ line, count: ids.length }]))[0]!);
      pages.release(line.pageIds);
    }

    for (const [index, ids] of texts.entries()) {
      const line: Line = { ids, numCachedTokens: 0, pageIds: [] };
      for (let i = 0; i < ids.length; i++) {
        const [bits] = await forward(graph, pages, [{ line, count: 1 }]);
        expect(bits).toEqual(prefilled[index]!.subarray(i * vocabSize, (i + 1) * vocabSize));
      }
      pages.release(line.pageIds);
    }

    for (let round = 0; round < 3; round++) {
      const lines = texts.map((ids): Line => ({ ids, numCachedTokens: 0, pageIds: [] }));
      while (lines.some(({ ids, numCachedTokens }) => numCachedTokens < ids.length)) {
        const runs = lines
          .filter((line) => line.numCachedTokens < line.ids.length && below(4) > 0)
          .map((line) => ({ line, count: 1 + below(line.ids.length - line.numCachedTokens) }));
        if (runs.length === 0) continue;
        const starts = runs.map(({ line }) => line.numCachedTokens);
        const results = await forward(graph, pages, runs);
        runs.forEach(({ line, count }, i) => {
          const expected = prefilled[lines.indexOf(line)]!;
          expect(results[i]).toEqual(expected.subarray(starts[i]! * vocabSize, (starts[i]! + count) * vocabSize));
        });
      }
      for (const { pageIds } of lines) pages.release(pageIds);
    }
    await backend.dispose();
  });
});
