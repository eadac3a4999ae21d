/** Rotary embedding, paged keys and values, attention: sequences that cross pages, shared kv heads, partial rotation. */
import { describe, expect, test } from 'vitest';
import type { AttentionOptions, Batch, KvDtype, KvShape } from '../../core/model/backend.ts';
import type { WasmBackend } from '../../wasm/backend.ts';
import { gaussians, place } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { attendHead, relativeError, rope, roundHalfToEven, roundToHalf } from './oracle.ts';
import { batchOf, HEAD_SHAPES, shuffledTables, whole } from './paged-sequences.ts';

/** Scores, weights and the weighted sum in f32, contexts of some dozens. */
const TOLERANCE = 2e-6;

type Scores = Partial<Omit<AttentionOptions, 'heads' | 'scale'>>;
const PLAIN = { window: null, softcap: null, alibiSlopes: null };

interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** null: no rotary tables at all. */
  rotaryDim: number | null;
  pageTokens: number;
}

/** Prefills of the given lengths in one batch, their pages out of order. */
function prefill(lengths: number[], pageTokens: number): { batch: Batch; pages: number } {
  const tables = shuffledTables(lengths, pageTokens);
  return { pages: tables.pages, batch: batchOf(tables, whole(tables)) };
}

/** cos, sin [tokens, rotaryDim/2] as a graph would make them. */
function rotaryTables(positions: Int32Array, rotaryDim: number): { cos: Float32Array; sin: Float32Array } {
  const half = rotaryDim / 2;
  const angle = (i: number) => positions[Math.floor(i / half)]! * 10000 ** (-(i % half) / half);
  const table = new Float32Array(positions.length * half);
  return { cos: table.map((_, i) => Math.cos(angle(i))), sin: table.map((_, i) => Math.sin(angle(i))) };
}

const slice = (values: Float32Array, row: number, width: number, head: number, headDim: number) =>
  values.subarray(row * width + head * headDim, row * width + (head + 1) * headDim);

/** A head's row as its page gives it back. */
function asStored(row: ArrayLike<number>, dtype: KvDtype): number[] {
  const values = Array.from(row, Math.fround);
  if (dtype === 'f32') return values;
  if (dtype === 'f16') return values.map(roundToHalf);
  const absmax = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const inverse = Math.fround(127 / absmax);
  return values.map((value) => (roundHalfToEven(Math.fround(value * inverse)) * absmax) / 127);
}

async function run(backend: WasmBackend, shape: Shape, lengths: number[], scores: Scores = {}, dtype: KvDtype = 'f32') {
  const { heads, kvHeads, headDim, pageTokens } = shape;
  const rotaryDim = shape.rotaryDim ?? 0;
  const { batch, pages } = prefill(lengths, pageTokens);
  const kv: KvShape = { layers: 2, kvHeads, headDim, pages, pageTokens, dtype };
  backend.allocateKv(kv);
  const tokens = batch.tokenIds.length;
  const q = gaussians(tokens * heads * headDim, 1);
  const k = gaussians(tokens * kvHeads * headDim, 2);
  const v = gaussians(tokens * kvHeads * headDim, 3);
  const { cos, sin } = rotaryTables(batch.positions, rotaryDim);
  backend.begin(batch);
  const rotary = shape.rotaryDim === null ? null : backend.rope(cos, sin, rotaryDim);
  const onQ = await place(backend, q, heads * headDim);
  const onK = await place(backend, k, kvHeads * headDim);
  const onV = await place(backend, v, kvHeads * headDim);
  backend.ropeKv(1, onQ, onK, onV, rotary);
  const options = { heads, scale: headDim ** -0.5, ...PLAIN, ...scores };
  const y = await backend.read(backend.attention(1, onQ, options));

  const half = rotaryDim / 2;
  const rotated = (values: Float32Array, headCount: number) =>
    Array.from({ length: tokens }, (_, token) =>
      Array.from({ length: headCount }, (_, head) =>
        rope(
          slice(values, token, headCount * headDim, head, headDim),
          cos.subarray(token * half, (token + 1) * half),
          sin.subarray(token * half, (token + 1) * half),
        ),
      ),
    );
  const queries = rotated(q, heads);
  const keys = rotated(k, kvHeads);
  const want = queries.flatMap((row, token) =>
    row.flatMap((query, head) => {
      const kvHead = Math.floor((head * kvHeads) / heads);
      const own = [...batch.sequenceOf.keys()].filter(
        (other) =>
          batch.sequenceOf[other] === batch.sequenceOf[token] && batch.positions[other]! <= batch.positions[token]!,
      );
      const values = own.map((other) => asStored(slice(v, other, kvHeads * headDim, kvHead, headDim), dtype));
      return [
        ...attendHead(
          query,
          own.map((other) => asStored(keys[other]![kvHead]!, dtype)),
          values,
          { ...options, slope: options.alibiSlopes?.[head] ?? 0 },
        ),
      ];
    }),
  );
  return { y, want, rotatedQ: await backend.read(onQ), queries, rotatedK: await backend.read(onK), keys };
}

describe.each(VARIANTS)('attention, %s', (variant) => {
  test.each(HEAD_SHAPES)(
    '$heads heads over $kvHeads of $headDim, $rotaryDim rotated, pages of $pageTokens',
    async (shape) => {
      const result = await run(await backendOf(variant), shape, [1, 2, 17, 33, 4]);
      expect(
        relativeError(
          result.rotatedQ,
          result.queries.flat().flatMap((head) => [...head]),
        ),
      ).toBeLessThan(1e-7);
      expect(
        relativeError(
          result.rotatedK,
          result.keys.flat().flatMap((head) => [...head]),
        ),
      ).toBeLessThan(1e-7);
      expect(relativeError(result.y, result.want)).toBeLessThan(TOLERANCE);
    },
  );

  const dtypes: KvDtype[] = ['f16', 'int8'];
  test.each(dtypes.flatMap((dtype) => HEAD_SHAPES.slice(0, 8).map((shape) => ({ dtype, ...shape }))))(
    '$dtype pages: $heads heads over $kvHeads of $headDim, as the stored values give it',
    async ({ dtype, ...shape }) => {
      const lengths = [1, 2, 17, 33, 4];
      const result = await run(await backendOf(variant), shape, lengths, { window: 20 }, dtype);
      // A key or value on the edge between two steps may round the other way than in f64.
      expect(relativeError(result.y, result.want)).toBeLessThan(dtype === 'f16' ? 2e-4 : 5e-3);
      const exact = await run(await backendOf(variant), shape, lengths, { window: 20 });
      expect(relativeError(result.y, exact.want)).toBeLessThan(dtype === 'f16' ? 1e-3 : 3e-2);
    },
  );

  test('f16 pages keep subnormals, and what they cannot hold becomes their largest', async () => {
    const backend = await backendOf(variant);
    const { batch, pages } = prefill([1], 4);
    backend.allocateKv({ layers: 1, kvHeads: 1, headDim: 8, pages, pageTokens: 4, dtype: 'f16' });
    backend.begin(batch);
    const v = Float32Array.of(2 ** -24, -(2 ** -20), 6.1e-5, 65504, 1e6, -1e6, 2 ** -26, -0.1);
    const q = await place(backend, new Float32Array(8), 8);
    backend.ropeKv(0, q, await place(backend, new Float32Array(8), 8), await place(backend, v, 8), null);
    const y = await backend.read(backend.attention(0, q, { heads: 1, scale: 1, ...PLAIN }));
    const want = Array.from(v, (value) => roundToHalf(Math.max(-65504, Math.min(65504, value))));
    expect([...y]).toEqual(want.map((value) => value + 0));
  });

  const slopes = Float32Array.of(0.5, 0.25, 0.125, 0.0625);
  const scoreOptions: [string, Scores][] = [
    ['a window of 1', { window: 1 }],
    ['a window of 3, less than a page', { window: 3 }],
    ['a window of 13, over pages', { window: 13 }],
    ['a window longer than any sequence', { window: 1000 }],
    ['a soft cap', { softcap: 0.7 }],
    ['a soft cap far above the scores', { softcap: 50 }],
    ['ALiBi', { alibiSlopes: slopes }],
    ['all of them', { window: 9, softcap: 2, alibiSlopes: slopes }],
  ];
  test.each(scoreOptions)('%s', async (_, scores) => {
    const shape = { heads: 4, kvHeads: 2, headDim: 12, rotaryDim: null, pageTokens: 5 };
    const lengths = [1, 2, 17, 33, 4];
    const result = await run(await backendOf(variant), shape, lengths, scores);
    expect(relativeError(result.y, result.want)).toBeLessThan(TOLERANCE);
    const plain = await run(await backendOf(variant), shape, lengths);
    if ((scores.window ?? 0) < 1000 && (scores.softcap ?? 0) < 50)
      expect(relativeError(result.y, plain.want)).toBeGreaterThan(0.01);
  });

  test('scores in the thousands neither overflow nor lose the largest', async () => {
    const backend = await backendOf(variant);
    const { batch, pages } = prefill([6], 4);
    backend.allocateKv({ layers: 1, kvHeads: 1, headDim: 4, pages, pageTokens: 4, dtype: 'f32' });
    backend.begin(batch);
    const rotary = backend.rope(new Float32Array(0), new Float32Array(0), 0);
    const keys = new Float32Array(6 * 4).map((_, i) => (i < 12 ? -100 : 100));
    const q = await place(backend, new Float32Array(6 * 4).fill(100), 4);
    const v = new Float32Array(6 * 4).map((_, i) => Math.floor(i / 4));
    backend.ropeKv(0, q, await place(backend, keys, 4), await place(backend, v, 4), rotary);
    const y = await backend.read(backend.attention(0, q, { heads: 1, scale: 1, ...PLAIN }));
    // Equal scores until position 2; from 3 on the low ones weigh nothing.
    expect([0, 1, 2, 3, 4, 5].map((token) => y[token * 4])).toEqual([0, 0.5, 1, 3, 3.5, 4]);
  });
});
