/** The LLM.int8() linear against the reference's own integers. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Int8Weight } from '../../core/model/backend.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians, int8Of } from '../wasm/inputs.ts';
import { linearInt8, relativeError } from '../wasm/oracle.ts';
import { openSpace } from './gpu-under-test.ts';
import { LinearsUnderTest, TOKENS } from './linear-under-test.ts';

/** The same integers; f32 in the last steps and in the outliers' sum. One code that differs shows as 1e-4. */
const SAME_TOLERANCE = 1e-6;

let space: Space;
let tested: LinearsUnderTest;
beforeAll(async () => {
  space = await openSpace();
  tested = new LinearsUnderTest(space);
});
afterAll(async () => {
  await space.gpu.destroy();
});

describe('int8 linear', () => {
  test.each([0, 6])('rows of whole chunks, threshold %i', async (threshold) => {
    const weight = int8Of(gaussians(65 * 160, 1), 160, threshold, gaussians(65, 3));
    const make = (count: number, seed: number) =>
      gaussians(count, seed).map((value, i) => (i % 233 === 7 ? value * 40 : value));
    expect(await tested.worstError(weight, threshold === 6 ? TOKENS : [1, 3, 9], make)).toBeLessThan(SAME_TOLERANCE);
  });

  test.each([
    [1, 1],
    [3, 5],
    [9, 66],
    [8, 512],
    [130, 172],
    [17, 2047],
  ])('[%i, %i], with and without outliers', async (outFeatures, inFeatures) => {
    for (const threshold of [0, 6, 1.5]) {
      const bias = gaussians(outFeatures, 3);
      const weight = int8Of(gaussians(outFeatures * inFeatures, 1), inFeatures, threshold, bias);
      expect(await tested.worstError(weight, [1, 9])).toBeLessThan(SAME_TOLERANCE);
    }
  });

  test('codes at ties: every half of every absolute maximum', async () => {
    // Halves and quarters of the maximum fall between two codes, where the factor's last bit decides.
    const make = (count: number, seed: number) => {
      const rows = gaussians(count / 64, seed);
      return Float32Array.from({ length: count }, (_, i) => (rows[Math.floor(i / 64)]! * (1 + (i % 64))) / 64);
    };
    const weight = int8Of(gaussians(16 * 64, 1), 64, 0, new Float32Array(16));
    expect(await tested.worstError(weight, [300], make)).toBeLessThan(SAME_TOLERANCE);
  });

  test('the threshold itself is an outlier, and is decided after rounding to f16', async () => {
    const weight = int8Of(gaussians(8 * 16, 1), 16, 6, new Float32Array(8));
    for (const value of [6, -6, 5.9999, 5.99, 6.001]) {
      const make = (count: number, seed: number) =>
        gaussians(count, seed).map((other, i) => (i % 16 === 3 ? value : other));
      expect(await tested.worstError(weight, [1, 9], make)).toBeLessThan(SAME_TOLERANCE);
    }
  });

  test('exact where f32 is not: an integer sum over 65,536 channels that passes 2^29 and comes back', async () => {
    const size = 65_536;
    const values = new Int8Array(8 * size).map((_, i) => (i % size < size / 2 ? 127 : -126));
    const weight: Int8Weight = { ...int8Of(new Float32Array(8 * size).fill(1), size, 0, new Float32Array(8)), values };
    const make = (count: number) => new Float32Array(count).fill(2);
    expect(await tested.worstError(weight, [1], make)).toBeLessThan(SAME_TOLERANCE);
    // Shares of the channels meet in f32, where 2^29 that comes back to 2^22 leaves 17 bits.
    expect(await tested.worstError(weight, [9], make)).toBeLessThan(2e-4);
  });

  test('subnormals of f16 and zeros', async () => {
    const weight = int8Of(gaussians(8 * 16, 1), 16, 0, new Float32Array(8));
    for (const size of [1e-6, 1e-5, 0]) {
      const make = (count: number, seed: number) => gaussians(count, seed).map((value) => value * size);
      expect(await tested.worstError(weight, [1, 9], make)).toBeLessThan(SAME_TOLERANCE);
    }
  });

  test('activations beyond f16 stay as they are', async () => {
    const weight = int8Of(gaussians(8 * 16, 1), 16, 0, new Float32Array(8));
    const x = gaussians(16, 4).map((value) => value * 1e6);
    expect(relativeError(await tested.product(weight, x), linearInt8(x, weight))).toBeLessThan(SAME_TOLERANCE);
  });

  test('an infinite or NaN activation is not hidden, and stays in its row', async () => {
    for (const tokens of [2, 9])
      for (const threshold of [0, 6])
        for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
          const x = gaussians(tokens * 64, 6);
          x[5] = poison;
          const weight = int8Of(gaussians(8 * 64, 1), 64, threshold, new Float32Array(8));
          const y = await tested.product(weight, x);
          expect(y.subarray(0, 8).some(Number.isFinite)).toBe(false);
          expect(y.subarray(8).every(Number.isFinite)).toBe(true);
        }
  });

  test('weights stay 8 bits', async () => {
    const { bytes } = await tested.linears.load(int8Of(gaussians(64 * 512, 1), 512, 6), 'weight');
    expect((bytes * 8) / (64 * 512)).toBeLessThan(8.2);
  });
});
