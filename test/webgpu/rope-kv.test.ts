/** Rotation in place and what the pages then hold, by page dtype; memory for pages, and what the device refuses. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KvDtype } from '../../core/model/backend.ts';
import { type GpuRope, KeyValues } from '../../gpu-worker/webgpu/key-values.ts';
import { freeBytes } from '../../gpu-worker/webgpu/memory-probe.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians } from '../wasm/inputs.ts';
import { relativeError, rope } from '../wasm/oracle.ts';
import { batchOf, shuffledTables, whole } from '../wasm/paged-sequences.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';
import { allocate, begin, readPages } from './paged.ts';

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

/** Half a step of the page's dtype, of the largest value of a row; f16 steps are 2^-10 of the value or more. */
const STEPS: Record<KvDtype, number> = { f32: 1e-6, f16: 2 ** -11 * 1.01, int8: (0.5 / 127) * 1.01 };

describe.each(Object.keys(STEPS) as KvDtype[])('ropeKv, %s pages', (dtype) => {
  test.each([
    [1, 1, 16, 16, 16],
    [6, 2, 36, 20, 5],
    [3, 1, 64, 32, 1],
    [2, 2, 7, 6, 3],
    [71, 1, 64, 64, 16],
    [2, 1, 256, 256, 16],
    [2, 1, 320, 300, 16],
    [4, 4, 10, null, 4],
    [4, 4, 10, 0, 4],
  ])('%i heads over %i of %i, %s rotated, pages of %i', async (heads, kvHeads, headDim, rotaryDim, pageTokens) => {
    const tables = shuffledTables([1, 2, 17, 33, 4], pageTokens);
    const batch = batchOf(tables, whole(tables));
    const tokens = batch.positions.length;
    const kv = allocate(space, { kvHeads, headDim, pageTokens, pages: tables.pages, dtype });
    const step = begin(space, batch);
    const q = gaussians(tokens * heads * headDim, 1);
    const k = gaussians(tokens * kvHeads * headDim, 2);
    const v = gaussians(tokens * kvHeads * headDim, 3);
    const half = (rotaryDim ?? 0) / 2;
    const angles = Float32Array.from({ length: tokens * half }, (_, i) => (i * 0.37) % 6);
    const [cos, sin] = [angles.map(Math.cos), angles.map(Math.sin)];
    const rotary: GpuRope | null =
      rotaryDim === null
        ? null
        : {
            rotaryDim,
            cos: space.activations.upload(cos),
            sin: space.activations.upload(sin),
            step: space.activations.step,
          };
    const onQ = place(space, q, heads * headDim);
    const onK = place(space, k, kvHeads * headDim);
    kv.ropeKv(step, 0, onQ, onK, place(space, v, kvHeads * headDim), rotary);

    const rotated = (values: Float32Array, headCount: number) =>
      Float32Array.from(
        Array.from({ length: tokens * headCount }, (_, at) => {
          const token = Math.floor(at / headCount);
          const turn = [cos, sin].map((table) => table.subarray(token * half, (token + 1) * half));
          return [...rope(values.subarray(at * headDim, (at + 1) * headDim), turn[0]!, turn[1]!)];
        }).flat(),
      );
    const keys = rotated(k, kvHeads);
    expect(relativeError(await readBack(space, onQ), rotated(q, heads))).toBeLessThan(1e-7);
    expect(relativeError(await readBack(space, onK), keys)).toBeLessThan(1e-7);
    const held = await readPages(space, kv);
    const width = kvHeads * headDim;
    batch.slots.forEach((slot, token) => {
      for (let head = 0; head < width; head += headDim) {
        const row = (values: Float32Array, at: number) =>
          values.subarray(at * width + head, at * width + head + headDim);
        for (const [got, want] of [
          [row(held.keys, slot), row(keys, token)],
          [row(held.values, slot), row(v, token)],
        ] as const) {
          const most = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          const errors = got.map((value, i) => Math.abs(value - want[i]!));
          expect(Math.max(...errors)).toBeLessThanOrEqual(STEPS[dtype] * most);
        }
      }
    });
    // Slots that no token has keep what was there.
    const written = new Set(batch.slots);
    const spare = Array.from({ length: tables.pages * pageTokens }, (_, slot) => slot).filter(
      (slot) => !written.has(slot),
    );
    expect(spare.length).toBeGreaterThan(0);
    for (const slot of spare) expect(held.values[slot * width]).toBeNaN();
  });

  test('rows of zeros, and values beyond what f16 holds', async () => {
    const tables = shuffledTables([2], 2);
    const kv = allocate(space, { kvHeads: 1, headDim: 8, pageTokens: 2, pages: tables.pages, dtype });
    const batch = batchOf(tables, whole(tables));
    const step = begin(space, batch);
    const rows = Float32Array.from({ length: 16 }, (_, i) => (i < 8 ? 0 : i % 2 === 0 ? 1e5 : -1e5));
    const x = place(space, rows, 8);
    kv.ropeKv(step, 0, place(space, rows, 8), x, place(space, rows, 8), null);
    const { values } = await readPages(space, kv);
    const row = (token: number) => [...values.subarray(batch.slots[token]! * 8, batch.slots[token]! * 8 + 8)];
    expect(row(0).map(Math.abs)).toEqual(new Array(8).fill(0));
    const most = dtype === 'f16' ? 65504 : 1e5;
    const expected = rows.subarray(8).map((value) => Math.sign(value) * most);
    expect(relativeError(row(1), expected)).toBeLessThan(1e-6);
  });
});

describe('misuse', () => {
  test('rotary tables and shapes that do not fit', () => {
    const tables = shuffledTables([4], 4);
    const kv = allocate(space, { kvHeads: 1, headDim: 8, pageTokens: 4, pages: tables.pages, dtype: 'f32' });
    const step = begin(space, batchOf(tables, whole(tables)));
    const x = place(space, new Float32Array(4 * 8), 8);
    const twelve = place(space, new Float32Array(4 * 12), 12);
    const cos = space.activations.upload(new Float32Array(4));
    const table = { rotaryDim: 2, cos, sin: cos, step: space.activations.step };
    expect(() => kv.ropeKv(step, 0, x, x, x, { ...table, step: 0 })).toThrow('rotary tables are of an earlier step');
    expect(() => kv.ropeKv(step, 0, x, x, x, { ...table, rotaryDim: 10 })).toThrow('rotaryDim 10 of a head of 8');
    expect(() => kv.ropeKv(step, 0, twelve, x, x, null)).toThrow('12 columns of q in heads of 8');
    expect(() => kv.ropeKv(step, 0, x, twelve, x, null)).toThrow('ropeKv: k is [4, 12], expected [4, 8]');
    expect(() => kv.ropeKv(step, 0, x, x, twelve, null)).toThrow('ropeKv: v is [4, 12], expected [4, 8]');
    expect(() => kv.ropeKv(step, 3, x, x, x, null)).toThrow('no key/value pages for layer 3');
  });
});

describe('memory', () => {
  test('a software adapter gives pages a fixed size', async () => {
    expect(space.gpu.opened.isSoftware).toBe(true);
    expect(await KeyValues.budgetBytes(space.gpu)).toBe(2 ** 30);
  });

  test('the probe counts what it got up to its cap, and gives it back', async () => {
    for (let again = 0; again < 3; again++)
      expect(await freeBytes(space.gpu, 16 * 2 ** 20, 100 * 2 ** 20)).toBe(96 * 2 ** 20);
  });

  test('more pages than the device binds are refused with their number', () => {
    const shape = { layers: 1, kvHeads: 1, headDim: 8, pageTokens: 4, pages: 9, dtype: 'f32' as const };
    const options = { deterministic: false, bindingBytes: 4 * 128 };
    expect(() => new KeyValues(space, shape, options)).toThrow('in 9 pages, of which the device can bind 8');
  });

  test('pages that the device refuses are out of memory at the next wait', async () => {
    const own = await openSpace();
    const { maxBufferSize } = own.gpu.opened.limits;
    const shape = { layers: 1, kvHeads: 1, headDim: 8, pageTokens: 1024, dtype: 'f32' as const };
    const pages = Math.ceil(maxBufferSize / 2 ** 15) + 1;
    new KeyValues(own, { ...shape, pages }, { deterministic: false, bindingBytes: 2 * maxBufferSize });
    await expect(own.gpu.idle()).rejects.toThrow(/key pages of layer 0/);
    await own.gpu.destroy();
  });
});
