/** PagedSequences: sequences in pages out of order, and the head shapes that attention is tried on, for every backend. Pure. */
import type { Batch } from '../../core/model/backend.ts';
import { random } from './oracle.ts';

/** Heads over kv heads, odd widths among them, with channels that a rotation turns (null: no rotation at all) and tokens in a page. */
export const HEAD_SHAPES = [
  { heads: 1, kvHeads: 1, headDim: 16, rotaryDim: 16, pageTokens: 16 },
  { heads: 4, kvHeads: 2, headDim: 8, rotaryDim: 8, pageTokens: 4 },
  { heads: 6, kvHeads: 2, headDim: 36, rotaryDim: 20, pageTokens: 5 },
  { heads: 3, kvHeads: 1, headDim: 64, rotaryDim: 32, pageTokens: 1 },
  { heads: 2, kvHeads: 2, headDim: 7, rotaryDim: 6, pageTokens: 3 },
  { heads: 71, kvHeads: 1, headDim: 64, rotaryDim: 64, pageTokens: 16 },
  { heads: 2, kvHeads: 1, headDim: 80, rotaryDim: 32, pageTokens: 16 },
  { heads: 3, kvHeads: 3, headDim: 96, rotaryDim: 96, pageTokens: 8 },
  { heads: 10, kvHeads: 1, headDim: 128, rotaryDim: 64, pageTokens: 16 },
  { heads: 2, kvHeads: 1, headDim: 256, rotaryDim: 256, pageTokens: 16 },
  { heads: 4, kvHeads: 4, headDim: 10, rotaryDim: null, pageTokens: 4 },
];

/** Tokens position .. position + tokens − 1 of a sequence. */
export interface Part {
  sequence: number;
  position: number;
  tokens: number;
}

/** Page tables of sequences of the given lengths. Page 0 belongs to nobody, and unused entries name it. */
export interface Tables {
  pages: number;
  maxPages: number;
  pageTables: Int32Array;
  lengths: number[];
  pageTokens: number;
}

export function shuffledTables(lengths: number[], pageTokens: number, seed = 1): Tables {
  const next = random(seed);
  const needed = lengths.map((length) => Math.ceil(length / pageTokens));
  const maxPages = Math.max(...needed) + 1;
  const ids = Array.from({ length: needed.reduce((sum, count) => sum + count, 0) }, (_, i) => i + 1);
  for (let i = ids.length - 1; i > 0; i--) {
    const other = Math.floor(next() * (i + 1));
    [ids[i], ids[other]] = [ids[other]!, ids[i]!];
  }
  const pageTables = new Int32Array(lengths.length * maxPages);
  needed.forEach((count, sequence) => {
    for (let at = 0; at < count; at++) pageTables[sequence * maxPages + at] = ids.pop()!;
  });
  return { pages: 1 + pageTables.filter((page) => page > 0).length, maxPages, pageTables, lengths, pageTokens };
}

export function batchOf({ pageTables, maxPages, pageTokens, lengths }: Tables, parts: readonly Part[]): Batch {
  const tokens = parts.flatMap(({ sequence, position, tokens }) =>
    Array.from({ length: tokens }, (_, at) => ({ sequence, position: position + at })),
  );
  return {
    tokenIds: Int32Array.from(tokens, (_, at) => at),
    positions: Int32Array.from(tokens, ({ position }) => position),
    slots: Int32Array.from(tokens, ({ sequence, position }) => {
      const page = pageTables[sequence * maxPages + Math.floor(position / pageTokens)]!;
      return page * pageTokens + (position % pageTokens);
    }),
    sequenceOf: Int32Array.from(tokens, ({ sequence }) => sequence),
    pageTables,
    maxPages,
    outputRows: new Int32Array(0),
    plannedTokens: Int32Array.from(lengths),
  };
}

export const whole = (tables: Tables): Part[] =>
  tables.lengths.map((tokens, sequence) => ({ sequence, position: 0, tokens }));
