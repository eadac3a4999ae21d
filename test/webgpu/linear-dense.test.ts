/** Plain weights in every float type, and rows of tables by id. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { f32ToBf16Array, f32ToF16Array } from '../../core/formats/half.ts';
import type { DenseWeight, LinearWeight } from '../../core/model/backend.ts';
import { dequantize } from '../../core/model/reference-weights.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { bnb4Of, denseOf, gaussians, gptqOf } from '../wasm/inputs.ts';
import { openSpace, readBack } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest, TOKENS } from './linear-under-test.ts';

const DTYPES = ['f32', 'f16', 'bf16'] as const;

let space: Space;
let tested: LinearsUnderTest;
beforeAll(async () => {
  space = await openSpace();
  tested = new LinearsUnderTest(space);
});
afterAll(async () => {
  await space.gpu.destroy();
});

function weightOf(outFeatures: number, inFeatures: number, dtype: DenseWeight['dtype']): DenseWeight {
  const values = gaussians(outFeatures * inFeatures, 1);
  const plain = denseOf(values, inFeatures, gaussians(outFeatures, 2));
  if (dtype === 'f32') return plain;
  const bits = dtype === 'f16' ? f32ToF16Array(values) : f32ToBf16Array(values);
  return { ...plain, dtype, bytes: new Uint8Array(bits.buffer) };
}

describe('dense linear', () => {
  test.each(DTYPES)('%s weights of whole chunks', async (dtype) => {
    const tokens = dtype === 'f32' ? TOKENS : [1, 3, 9];
    expect(await tested.worstError(weightOf(65, 160, dtype), tokens)).toBeLessThan(F32_TOLERANCE);
  });

  test.each([
    [1, 1],
    [3, 33],
    [17, 2],
    [64, 97],
    [130, 31],
    [5, 4099],
  ])('[%i, %i] in every type: rows end inside words', async (outFeatures, inFeatures) => {
    for (const dtype of DTYPES)
      expect(await tested.worstError(weightOf(outFeatures, inFeatures, dtype), [1, 9])).toBeLessThan(F32_TOLERANCE);
  });

  test.each(['f16', 'bf16'] as const)('every %s pattern is read as it is', async (dtype) => {
    const bits = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const plain = denseOf(new Float32Array(65_536), 64);
    const weight: DenseWeight = { ...plain, dtype, bytes: new Uint8Array(bits.buffer) };
    const table = await tested.linears.load(weight, 'table');
    space.activations.begin();
    const ids = Int32Array.from({ length: 1024 }, (_, i) => i);
    const found = await readBack(space, tested.linears.embed(table, ids, 1));
    dequantize(weight).forEach((value, i) => {
      // Subnormals of f32 may be flushed.
      if (Number.isFinite(value) && (value === 0 || Math.abs(value) > 1.2e-38)) expect(found[i]).toBe(value);
      else expect(Number.isFinite(found[i]) && Number.isFinite(value) === false).toBe(false);
    });
  });

  test('a shared buffer may hold the weight', async () => {
    const { bytes, ...weight } = weightOf(33, 160, 'f16');
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    expect(await tested.worstError({ ...weight, bytes: shared }, [1])).toBeLessThan(F32_TOLERANCE);
  });
});

describe('embed', () => {
  const ids = Int32Array.of(40, 0, 7, 7, 36);
  async function expectRows(weight: LinearWeight, tolerance: number) {
    const table = await tested.linears.load(weight, 'table');
    space.activations.begin();
    const found = await readBack(space, tested.linears.embed(table, ids, 1.5));
    const values = dequantize(weight);
    const { inFeatures } = weight;
    expect(found.length).toBe(ids.length * inFeatures);
    found.forEach((value, i) => {
      const wanted = values[ids[Math.floor(i / inFeatures)]! * inFeatures + (i % inFeatures)]! * 1.5;
      expect(Math.abs(value - wanted)).toBeLessThanOrEqual(Math.abs(wanted) * tolerance);
    });
  }

  test.each(DTYPES)('%s rows', async (dtype) => {
    for (const inFeatures of [1, 37, 96]) await expectRows(weightOf(41, inFeatures, dtype), 1e-7);
  });

  test.each([2, 3, 4, 8] as const)('gptq rows of %i bits, in order and by activation', async (bits) => {
    for (const shape of [
      { inFeatures: 96, groupSize: 32, actOrder: true },
      { inFeatures: 37, groupSize: 11 },
      { inFeatures: 96, groupSize: 96 },
    ])
      await expectRows(gptqOf({ outFeatures: 41, bits, sym: false, ...shape }), 3e-7);
  });

  test('an id beyond the table and a table of another kind are refused', async () => {
    const table = await tested.linears.load(weightOf(41, 96, 'f32'), 'table');
    expect(() => tested.linears.embed(table, Int32Array.of(41), 1)).toThrow('id 41 of a table of 41 rows');
    expect(() => tested.linears.embed(table, Int32Array.of(-1), 1)).toThrow('id -1');
    const packed = bnb4Of(gaussians(64 * 64, 1), 64, { quantType: 'nf4', blockSize: 64 });
    const other = await tested.linears.load(packed, 'table');
    expect(() => tested.linears.embed(other, Int32Array.of(0), 1)).toThrow('dense and gptq tables only');
  });
});
