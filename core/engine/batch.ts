/** Batch: the scheduler's chunks as typed arrays for the graph. */
import type { Batch } from '../model/backend.ts';

/** `count` tokens of a sequence, from its first uncached one. */
export interface TokenRun {
  sequence: {
    readonly ids: readonly number[];
    readonly numCachedTokens: number;
    readonly pageIds: readonly number[];
    readonly plannedTokens: number;
  };
  count: number;
}

/** Tokens in the order of the chunks. Logits are asked for the last token of each chunk that reaches its sequence's end; `all` asks for every token's. */
export function makeBatch(chunks: readonly TokenRun[], pageTokens: number, outputs: 'ends' | 'all'): Batch {
  const tokens = chunks.reduce((sum, chunk) => sum + chunk.count, 0);
  const maxPages = chunks.reduce((most, { sequence }) => Math.max(most, sequence.pageIds.length), 0);
  const batch: Batch = {
    tokenIds: new Int32Array(tokens),
    positions: new Int32Array(tokens),
    slots: new Int32Array(tokens),
    sequenceOf: new Int32Array(tokens),
    pageTables: new Int32Array(chunks.length * maxPages),
    maxPages,
    outputRows: new Int32Array(0),
    plannedTokens: Int32Array.from(chunks, ({ sequence }) => sequence.plannedTokens),
  };
  const outputRows: number[] = [];
  let row = 0;
  chunks.forEach(({ sequence, count }, index) => {
    batch.pageTables.set(sequence.pageIds, index * maxPages);
    for (let i = 0; i < count; i++, row++) {
      const position = sequence.numCachedTokens + i;
      batch.tokenIds[row] = sequence.ids[position]!;
      batch.positions[row] = position;
      batch.slots[row] = sequence.pageIds[Math.floor(position / pageTokens)]! * pageTokens + (position % pageTokens);
      batch.sequenceOf[row] = index;
      if (outputs === 'all' || position === sequence.ids.length - 1) outputRows.push(row);
    }
  });
  batch.outputRows = Int32Array.from(outputRows);
  return batch;
}
