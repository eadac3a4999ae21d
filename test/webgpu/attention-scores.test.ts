/** Paged attention on the device: windows, soft caps and ALiBi, extreme scores, the same bits in any batch, and misuse. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KeyValues } from '../../gpu-worker/webgpu/key-values.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians } from '../wasm/inputs.ts';
import { relativeError } from '../wasm/oracle.ts';
import { batchOf, type Part, shuffledTables, whole } from '../wasm/paged-sequences.ts';
import { attention, expectClose, MIXED, MIXED_LENGTHS, type Scores, type Shape, TOLERANCE } from './attention-case.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';
import { allocate, begin, writePages } from './paged.ts';

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

const SHAPE: Shape = { heads: 4, kvHeads: 2, headDim: 12, pageTokens: 5 };

describe('scores', () => {
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
    const tables = shuffledTables(MIXED_LENGTHS, 5);
    const result = await attention(space, { shape: SHAPE, tables, parts: MIXED, scores });
    expectClose(MIXED, result);
    const plain = await attention(space, { shape: SHAPE, tables, parts: MIXED });
    if ((scores.window ?? 0) < 1000 && (scores.softcap ?? 0) < 50)
      expect(relativeError(result.y, plain.want)).toBeGreaterThan(0.01);
  });

  test.each([
    ['all far below zero', -1, 1],
    ['all far above zero', 1, 1],
  ])('%s', async (_, sign, scale) => {
    const tables = shuffledTables(MIXED_LENGTHS, 5);
    const tokens = 169;
    // Every product is about ±12·900 and differs from its neighbours' by whole numbers, so f32 holds the scores exactly.
    const k = gaussians(tokens * 24, 4).map((value) => sign * (30 + Math.round(value)));
    const q = new Float32Array(68 * 48).fill(30);
    const result = await attention(space, { shape: SHAPE, tables, parts: MIXED, k, q, scores: { scale: scale / 30 } });
    expectClose(MIXED, result);
  });

  test('scores of 1e30 neither overflow nor lose the largest', async () => {
    const tables = shuffledTables([20, 6], 4);
    const parts = whole(tables);
    const shape = { heads: 1, kvHeads: 1, headDim: 4, pageTokens: 4 };
    const k = new Float32Array(26 * 4).map((_, i) => ((i >> 2) % 20 < 3 ? -1e15 : 1e15));
    const q = new Float32Array(26 * 4).fill(1e15);
    const v = new Float32Array(26 * 4).map((_, i) => (i >> 2) % 20);
    const { y } = await attention(space, { shape, tables, parts, k, q, v, scores: { scale: 1 } });
    // Equal scores until position 2; from 3 on the low ones weigh nothing.
    const means = [0, 0.5, 1, 3, 3.5, 4];
    expect([...means.keys()].map((token) => y[token * 4])).toEqual(means);
    expect([...means.keys()].map((token) => y[(20 + token) * 4])).toEqual(means);
  });
});

describe('deterministic', () => {
  const lengths = [300, 37, 3, 520];
  const tables = shuffledTables(lengths, 5);
  const q = gaussians(860 * 48, 1);
  /** Row of `q` of each token. */
  const rowOf = ({ sequence, position }: Part) =>
    lengths.slice(0, sequence).reduce((sum, length) => sum + length, 0) + position;

  test.each([null, 290])(
    'a token has the same bits alone, in a prefill and in any batch, window %s',
    async (window) => {
      const kv = allocate(space, { ...SHAPE, pages: tables.pages, dtype: 'f32' }, { deterministic: true });
      writePages(space, kv, batchOf(tables, whole(tables)), gaussians(860 * 24, 2), gaussians(860 * 24, 3));
      const options = { heads: 4, scale: 0.3, window, softcap: null, alibiSlopes: null };
      const run = async (parts: Part[]) => {
        const step = begin(space, batchOf(tables, parts));
        const rows = parts.flatMap((part) => {
          const first = rowOf(part);
          return [...q.subarray(first * 48, (first + part.tokens) * 48)];
        });
        const x = place(space, Float32Array.from(rows), 48);
        return readBack(space, kv.attention(step, 0, x, options));
      };
      const all = await run(whole(tables));
      const parts: Part[] = [
        { sequence: 3, position: 519, tokens: 1 },
        { sequence: 0, position: 255, tokens: 45 },
        { sequence: 2, position: 0, tokens: 1 },
        { sequence: 1, position: 20, tokens: 17 },
        { sequence: 3, position: 257, tokens: 2 },
      ];
      const mixed = await run(parts);
      let at = 0;
      for (const part of parts) {
        const first = rowOf(part) * 48;
        const size = part.tokens * 48;
        expect(mixed.subarray(at, at + size)).toEqual(all.subarray(first, first + size));
        expect(await run([part])).toEqual(all.subarray(first, first + size));
        at += size;
      }
    },
  );

  test('and it is right', async () => {
    const parts = [{ sequence: 3, position: 500, tokens: 20 }];
    const options = { deterministic: true };
    const { y, want } = await attention(space, { shape: SHAPE, tables, parts, options });
    expect(relativeError(y, want)).toBeLessThan(TOLERANCE);
  });
});

describe('misuse', () => {
  const tables = shuffledTables([4], 4);
  const shape = { kvHeads: 2, headDim: 4, pageTokens: 4, pages: tables.pages, dtype: 'f32' as const };
  const batch = batchOf(tables, whole(tables));
  const options = { heads: 4, scale: 1, window: null, softcap: null, alibiSlopes: null };

  test.each([
    [{ heads: 3 }, '3 heads over 2 kv heads'],
    [{ heads: 2 }, 'attention: q is [4, 16], expected [4, 8]'],
    [{ window: 0 }, 'a window of 0 positions'],
    [{ softcap: 0 }, 'scores capped at 0'],
    [{ alibiSlopes: new Float32Array(3) }, '3 ALiBi slopes for 4 heads'],
  ])('attention with %o', (wrong, message) => {
    const kv = allocate(space, shape);
    const step = begin(space, batch);
    const q = place(space, new Float32Array(4 * 16), 16);
    expect(() => kv.attention(step, 0, q, { ...options, ...wrong })).toThrow(message);
    expect(() => kv.attention(step, 1, q, options)).toThrow('no key/value pages for layer 1');
  });

  test.each([
    [{ slots: Int32Array.of(0, 1, 2, 8) }, 'slot 8 of 2 pages of 4 tokens'],
    [{ slots: Int32Array.of(0, 1, 2, -1) }, 'slot -1 of 2 pages'],
    [{ pageTables: Int32Array.of(2, 0) }, 'page 2 of 2 in sequence 0'],
    [{ positions: Int32Array.of(5, 6, 7, 8) }, 'position 8 of sequence 0 has no page'],
    [{ sequenceOf: Int32Array.of(1, 1, 1, 1) }, 'position 3 of sequence 1 has no page'],
  ])('a batch with %o', (wrong, message) => {
    const kv = allocate(space, shape);
    const step = begin(space, { ...batch, ...wrong });
    const q = place(space, new Float32Array(4 * 16), 16);
    expect(() => kv.attention(step, 0, q, options)).toThrow(message);
    const k = place(space, new Float32Array(4 * 8), 8);
    expect(() => kv.ropeKv(step, 0, q, k, k, null)).toThrow(message);
  });

  test('heads of more channels than any kernel takes', () => {
    const wide = { ...shape, layers: 1, headDim: 513 };
    expect(() => new KeyValues(space, wide, { deterministic: false })).toThrow('heads of up to 512 channels, not 513');
  });
});
