/** The int4 linear against dequantised weights, on shapes that miss every tile. */
import { describe, expect, test } from 'vitest';
import type { GptqWeight } from '../../core/model/backend.ts';
import { gaussians, gptqOf, ROW_COUNTS, runLinear } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantize, linear, quantizeRow, relativeError } from './oracle.ts';

/** Int8 activations in groups of 32: a rounding error uniform in a step of absmax/127 is about 0.6% of a Gaussian group's norm. */
const INT8_TOLERANCE = 1e-2;
/** The same integers, so only the f32 sum over groups differs from f64. */
const SUM_TOLERANCE = 1e-5;

function quantized(x: Float32Array, inFeatures: number): Float64Array {
  const rows = Array.from({ length: x.length / inFeatures }, (_, row) =>
    quantizeRow(x.subarray(row * inFeatures, (row + 1) * inFeatures)),
  );
  return Float64Array.from(rows.flatMap((row) => [...row]));
}

describe.each(VARIANTS)('int4 linear, %s', (variant) => {
  async function errors(weight: GptqWeight, x: Float32Array): Promise<{ int8: number; sum: number }> {
    const backend = await backendOf(variant);
    const y = await runLinear(backend, weight, x);
    const w = dequantize(weight);
    return {
      int8: relativeError(y, linear(x, w, weight.bias, weight.inFeatures)),
      sum: relativeError(y, linear(quantized(x, weight.inFeatures), w, weight.bias, weight.inFeatures)),
    };
  }

  const groupSizes = [32, 64, 96, 128, 256, 512];
  test.each(groupSizes.flatMap((groupSize) => [true, false].map((sym) => ({ groupSize, sym }))))(
    'group size $groupSize, sym $sym: within 1% of the dequantised weights, and exact but for the sum over groups',
    async ({ groupSize, sym }) => {
      const weight = gptqOf({ outFeatures: 72, inFeatures: 512, groupSize, sym, bias: true, seed: groupSize });
      const error = await errors(weight, gaussians(5 * 512, 3));
      expect(error.int8).toBeLessThan(INT8_TOLERANCE);
      expect(error.sum).toBeLessThan(SUM_TOLERANCE);
    },
  );

  test.each(ROW_COUNTS)('%i rows', async (rows) => {
    const weight = gptqOf({ outFeatures: 24, inFeatures: 160, groupSize: 64, sym: false });
    const error = await errors(weight, gaussians(rows * 160, rows));
    expect(error.int8).toBeLessThan(INT8_TOLERANCE);
    expect(error.sum).toBeLessThan(SUM_TOLERANCE);
  });

  test.each([
    { outFeatures: 1, inFeatures: 8, groupSize: 32 },
    { outFeatures: 7, inFeatures: 40, groupSize: 32 },
    { outFeatures: 9, inFeatures: 264, groupSize: 128 },
    { outFeatures: 12, inFeatures: 72, groupSize: 72 },
    { outFeatures: 15, inFeatures: 104, groupSize: 64 },
    { outFeatures: 17, inFeatures: 2056, groupSize: 2056 },
  ])('out $outFeatures, in $inFeatures, group $groupSize: neither divides a tile', async (shape) => {
    for (const sym of [true, false]) {
      const error = await errors(gptqOf({ ...shape, sym, bias: true }), gaussians(6 * shape.inFeatures, 5));
      expect(error.sum).toBeLessThan(SUM_TOLERANCE);
    }
  });

  test('stored zeros 0 to 15 wrap within four bits, v1 and v2', async () => {
    for (const zeroOffset of [0, 1] as const) {
      const weight = gptqOf({ outFeatures: 16, inFeatures: 64, groupSize: 32, sym: false, zeroOffset });
      // Rows 0..7 hold 0..7, rows 8..15 hold 8..15: in v1, stored 15 is zero 0.
      weight.qzeros.set([0x76543210, 0xfedcba98 | 0, 0x76543210, 0xfedcba98 | 0]);
      expect((await errors(weight, gaussians(2 * 64, 9))).sum).toBeLessThan(SUM_TOLERANCE);
    }
  });

  test('largest magnitudes: all nibbles 15, all activations at ±absmax', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 4096, groupSize: 4096, sym: false, zeroOffset: 0 });
    weight.qweight.fill(-1);
    weight.qzeros.fill(0);
    const x = new Float32Array(5 * 4096).map((_, i) => (i < 4096 ? -3 : i % 2 === 0 ? 3 : -3.0001));
    expect((await errors(weight, x)).sum).toBeLessThan(SUM_TOLERANCE);
  });

  test('f16 subnormal scales and activations far from 1', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 96, groupSize: 32, sym: true });
    weight.scales.set([0x0001, 0x03ff, 0x8001, 0x0400, 0x7bff, 0xfbff, 0x0000, 0x8000]);
    for (const size of [1e-12, 1, 1e12]) {
      const x = gaussians(3 * 96, 4).map((value) => value * size);
      expect((await errors(weight, x)).sum).toBeLessThan(SUM_TOLERANCE);
    }
  });

  test('a row of zeros gives the bias', async () => {
    const weight = gptqOf({ outFeatures: 11, inFeatures: 64, groupSize: 64, sym: false, bias: true });
    const y = await runLinear(await backendOf(variant), weight, new Float32Array(64));
    expect(y).toEqual(weight.bias);
  });

  test('an infinite or NaN activation is not hidden', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 64, groupSize: 64, sym: true });
    for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const x = gaussians(2 * 64, 6);
      x[5] = poison;
      const y = await runLinear(await backendOf(variant), weight, x);
      expect(y.subarray(0, 8).every(Number.isNaN)).toBe(true);
      expect(y.subarray(8).every(Number.isFinite)).toBe(true);
    }
  });
});
