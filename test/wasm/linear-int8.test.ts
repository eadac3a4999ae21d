/** The LLM.int8() linear against an oracle that does the same, and against f32. */
import { describe, expect, test } from 'vitest';
import type { Int8Weight } from '../../core/model/backend.ts';
import { gaussians, int8Of, ROW_COUNTS, runLinear } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantizeInt8, linear, linearInt8, relativeError } from './oracle.ts';

/** The same integers; f32 in the last steps and in the outliers' sum. */
const SAME_TOLERANCE = 1e-6;
/** Int8 by one maximum a token: for Gaussian rows of 512 a step is about 3.2 deviations / 127, whose rounding is 0.7%. */
const INT8_TOLERANCE = 1e-2;

describe.each(VARIANTS)('int8 linear, %s', (variant) => {
  async function errors(weight: Int8Weight, x: Float32Array): Promise<{ same: number; float: number }> {
    const y = await runLinear(await backendOf(variant), weight, x);
    const { inFeatures, bias } = weight;
    const tokens = Array.from({ length: x.length / inFeatures }, (_, token) =>
      linearInt8(x.subarray(token * inFeatures, (token + 1) * inFeatures), weight),
    );
    return {
      same: relativeError(
        y,
        tokens.flatMap((token) => [...token]),
      ),
      float: relativeError(y, linear(x, dequantizeInt8(weight), bias, inFeatures)),
    };
  }

  test.each([
    [1, 1],
    [3, 5],
    [9, 66],
    [8, 512],
    [37, 172],
    [17, 2047],
  ])('[%i, %i], with and without bias and outliers', async (outFeatures, inFeatures) => {
    for (const threshold of [0, 6, 1.5])
      for (const bias of [null, gaussians(outFeatures, 3)]) {
        const weight = int8Of(gaussians(outFeatures * inFeatures, 1), inFeatures, threshold, bias);
        const error = await errors(weight, gaussians(6 * inFeatures, 2));
        expect(error.same).toBeLessThan(SAME_TOLERANCE);
        expect(error.float).toBeLessThan(INT8_TOLERANCE);
      }
  });

  test.each(ROW_COUNTS)('%i rows, some with outliers', async (rows) => {
    const weight = int8Of(gaussians(24 * 160, 1), 160, 6);
    const x = gaussians(rows * 160, rows).map((value, i) => (i % 233 === 7 ? value * 40 : value));
    const error = await errors(weight, x);
    expect(error.same).toBeLessThan(SAME_TOLERANCE);
    expect(error.float).toBeLessThan(INT8_TOLERANCE);
  });

  test('outliers leave the other channels their precision', async () => {
    const x = gaussians(4 * 512, 2).map((value, i) => (i % 512 === 100 ? 300 : value));
    const values = gaussians(16 * 512, 1);
    // A channel at 300 multiplies nothing here: what is left is the others' rounding.
    const without = values.map((value, i) => (i % 512 === 100 ? 0 : value));
    expect((await errors(int8Of(without, 512, 6), x)).float).toBeLessThan(INT8_TOLERANCE);
    expect((await errors(int8Of(without, 512, 0), x)).float).toBeGreaterThan(0.1);
  });

  test('the threshold itself is an outlier, and is decided after rounding to f16', async () => {
    const weight = int8Of(gaussians(8 * 16, 1), 16, 6);
    for (const value of [6, -6, 5.9999, 5.99, 6.001]) {
      const x = gaussians(16, 4);
      x[3] = value;
      expect((await errors(weight, x)).same).toBeLessThan(SAME_TOLERANCE);
    }
  });

  test('exact where f32 is not: one integer sum over 65,536 channels, magnitudes at their largest', async () => {
    const size = 65_536;
    const values = new Float32Array(8 * size).fill(1);
    const weight = { ...int8Of(values, size, 0), values: new Int8Array(8 * size).fill(-128) };
    const x = new Float32Array(size).fill(2);
    const y = await runLinear(await backendOf(variant), weight, x);
    expect(y[0]).toBe(
      Math.fround(Math.fround(-128 * 127 * size) * Math.fround(Math.fround(2 / 127) * Math.fround(1 / 127))),
    );
  });

  test('subnormals of f16, zeros, and activations beyond f16', async () => {
    const weight = int8Of(gaussians(8 * 16, 1), 16, 0);
    for (const size of [1e-6, 1e-5, 0, 1e6]) {
      const x = gaussians(16, 4).map((value) => value * size);
      expect((await errors(weight, x)).same).toBeLessThan(SAME_TOLERANCE);
    }
  });

  test('an infinite or NaN activation is not hidden', async () => {
    for (const threshold of [0, 6])
      for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const x = gaussians(2 * 64, 6);
        x[5] = poison;
        const y = await runLinear(await backendOf(variant), int8Of(gaussians(8 * 64, 1), 64, threshold), x);
        expect(y.subarray(0, 8).some(Number.isFinite)).toBe(false);
        expect(y.subarray(8).every(Number.isFinite)).toBe(true);
      }
  });

  test('weights stay 8 bits', async () => {
    const { bytes } = await (await backendOf(variant)).loadLinear(int8Of(gaussians(64 * 512, 1), 512, 6), 'weight');
    expect((bytes * 8) / (64 * 512)).toBeLessThan(8.2);
  });
});
