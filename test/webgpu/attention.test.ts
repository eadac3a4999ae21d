/** Paged attention on the device: every head shape and page dtype, prefills and decodes in one batch. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KvDtype } from '../../core/model/backend.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { relativeError } from '../wasm/oracle.ts';
import { HEAD_SHAPES, shuffledTables } from '../wasm/paged-sequences.ts';
import { attention, expectClose, MIXED, MIXED_LENGTHS, PREFILL_TOKENS } from './attention-case.ts';
import { openSpace } from './gpu-under-test.ts';

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

/** Against the keys and values before they were rounded to the pages' dtype; INTERFACES.md allows f16 2e-3. */
const ROUNDING: Record<KvDtype, number> = { f32: 2e-6, f16: 1e-3, int8: 1.5e-2 };

describe.each(Object.keys(ROUNDING) as KvDtype[])('%s pages', (dtype) => {
  test.each(HEAD_SHAPES)('$heads heads over $kvHeads of $headDim, pages of $pageTokens', async (shape) => {
    const tables = shuffledTables(MIXED_LENGTHS, shape.pageTokens);
    // The prefill kernel is compiled anew by width, seconds on a software GPU: f16 and int8 pages take its two usual widths only.
    const usual = shape.headDim <= 128 && shape.headDim % 4 === 0;
    const parts = dtype === 'f32' || usual ? MIXED : MIXED.filter(({ tokens }) => tokens < PREFILL_TOKENS);
    const result = await attention(space, { shape, tables, parts, dtype });
    expectClose(parts, result);
    const width = shape.kvHeads * shape.headDim;
    const unrounded = (rows: Float32Array) => {
      const slots = new Float32Array(tables.pages * shape.pageTokens * width);
      for (const [row, slot] of result.all.slots.entries())
        slots.set(rows.subarray(row * width, (row + 1) * width), slot * width);
      return slots;
    };
    const exact = result.wantOf(unrounded(result.k), unrounded(result.v));
    expect(relativeError(result.y, exact)).toBeLessThan(ROUNDING[dtype]);
  });
});

describe('f32 pages', () => {
  test('heads of more than 256 channels', async () => {
    const shape = { heads: 2, kvHeads: 1, headDim: 320, pageTokens: 16 };
    const tables = shuffledTables(MIXED_LENGTHS, 16);
    expectClose(MIXED, await attention(space, { shape, tables, parts: MIXED }));
  });

  test('kernels unrolled for one head shape', async () => {
    const shape = { heads: 4, kvHeads: 2, headDim: 12, pageTokens: 5 };
    const tables = shuffledTables(MIXED_LENGTHS, 5);
    const options = { unrolled: true };
    expectClose(MIXED, await attention(space, { shape, tables, parts: MIXED, dtype: 'int8', options }));
  });

  test('planes that one binding cannot hold lie in two', async () => {
    const shape = { heads: 4, kvHeads: 2, headDim: 12, pageTokens: 4 };
    const tables = shuffledTables(MIXED_LENGTHS, 4);
    const pageBytes = 2 * 2 * 4 * 32;
    const options = { bindingBytes: (Math.ceil(tables.pages / 2) + 1) * pageBytes };
    const result = await attention(space, { shape, tables, parts: MIXED, options });
    expect(result.kv.pages(0).keys.length).toBe(2);
    expectClose(MIXED, result);
  });

  test('a long context in splits, a window over several of them, and many sequences beside it', async () => {
    const shape = { heads: 2, kvHeads: 1, headDim: 16, pageTokens: 16 };
    const lengths = [1500, ...Array.from({ length: 40 }, (_, i) => 1 + 3 * i)];
    const tables = shuffledTables(lengths, 16);
    const parts = [
      ...lengths.map((length, sequence) => ({ sequence, position: length - 1, tokens: 1 })),
      { sequence: 0, position: 1100, tokens: 40 },
    ];
    for (const window of [null, 700]) {
      const result = await attention(space, { shape, tables, parts, scores: { window } });
      expectClose(parts, result);
    }
  });
});
