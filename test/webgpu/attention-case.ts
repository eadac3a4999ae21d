/** AttentionCase: attention over paged sequences on the device, beside plain loops in f64 over what the pages hold. */
import { expect } from 'vitest';
import type { AttentionOptions, KvDtype } from '../../core/model/backend.ts';
import { attend } from '../../core/model/reference-attention.ts';
import type { KeyValuesOptions } from '../../gpu-worker/webgpu/key-values.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians } from '../wasm/inputs.ts';
import { relativeError } from '../wasm/oracle.ts';
import { batchOf, type Part, type Tables, whole } from '../wasm/paged-sequences.ts';
import { place, readBack } from './gpu-under-test.ts';
import { allocate, begin, readPages, writePages } from './paged.ts';

/** Products, weights and sums in f32 over some hundred positions; WGSL lets exp(−20) err by 43 units of the last place. */
export const TOLERANCE = 2e-6;
/** From so many tokens on a run takes the prefill kernel, unless deterministic. */
export const PREFILL_TOKENS = 16;

export interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  pageTokens: number;
}

export type Scores = Partial<Omit<AttentionOptions, 'heads'>>;

export interface AttentionCase {
  shape: Shape;
  tables: Tables;
  parts: readonly Part[];
  dtype?: KvDtype;
  scores?: Scores;
  options?: Partial<KeyValuesOptions>;
  /** [tokens of parts, heads·headDim] */
  q?: Float32Array;
  /** [tokens of all sequences, kvHeads·headDim] */
  k?: Float32Array;
  v?: Float32Array;
}

/** Prefills from the start and from the middle, first tokens, decodes, and short runs, in one batch. */
export const MIXED_LENGTHS = [1, 2, 33, 40, 70, 5, 18];
export const MIXED: readonly Part[] = [
  { sequence: 0, position: 0, tokens: 1 },
  { sequence: 2, position: 0, tokens: 33 },
  { sequence: 1, position: 1, tokens: 1 },
  { sequence: 4, position: 47, tokens: 23 },
  { sequence: 3, position: 36, tokens: 4 },
  { sequence: 5, position: 0, tokens: 5 },
  { sequence: 6, position: 17, tokens: 1 },
];

/** `want` is of the values in the pages; `wantOf(keys, values)` of others [slots, kvHeads·headDim]. */
export async function attention(space: Space, given: AttentionCase) {
  const { shape, tables, parts, dtype = 'f32', scores = {}, options } = given;
  const { heads, kvHeads, headDim } = shape;
  const kv = allocate(space, { ...shape, pages: tables.pages, dtype }, options);
  const all = batchOf(tables, whole(tables));
  const size = all.positions.length * kvHeads * headDim;
  const [k, v] = [given.k ?? gaussians(size, 2), given.v ?? gaussians(size, 3)];
  writePages(space, kv, all, k, v);
  const batch = batchOf(tables, parts);
  const q = given.q ?? gaussians(batch.positions.length * heads * headDim, 1);
  const plain = { heads, scale: headDim ** -0.5, window: null, softcap: null, alibiSlopes: null };
  const asked: AttentionOptions = { ...plain, ...scores };
  const step = begin(space, batch);
  const y = await readBack(space, kv.attention(step, 0, place(space, q, heads * headDim), asked));
  const wantOf = (keys: Float32Array, values: Float32Array) =>
    attend(0, q, heads * headDim, asked, { shape: kv.shape, keys: [keys], values: [values] }, batch);
  const held = await readPages(space, kv);
  return { kv, all, k, v, y, want: wantOf(held.keys, held.values), wantOf };
}

/** Errors of the rows that the prefill kernel made and of the others, each as a whole. */
export function expectClose(
  parts: readonly Part[],
  { y, want }: { y: Float32Array; want: Float32Array },
  tolerance = TOLERANCE,
): void {
  const width = y.length / parts.reduce((sum, { tokens }) => sum + tokens, 0);
  const rows = { prefill: [] as number[], decode: [] as number[] };
  let at = 0;
  for (const { tokens } of parts)
    for (let i = 0; i < tokens * width; i++) rows[tokens >= PREFILL_TOKENS ? 'prefill' : 'decode'].push(at++);
  const pick = (values: Float32Array, places: number[]) => places.map((place) => values[place]!);
  for (const [kernel, places] of Object.entries(rows))
    expect(relativeError(pick(y, places), pick(want, places)), kernel).toBeLessThan(tolerance);
}
