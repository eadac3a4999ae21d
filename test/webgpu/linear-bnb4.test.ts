/** The NF4 and FP4 linears against dequantised weights: blocks that end with rows, inside rows and inside chunks. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { bnb4Of, gaussians } from '../wasm/inputs.ts';
import { openSpace } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest, TOKENS } from './linear-under-test.ts';

let space: Space;
let tested: LinearsUnderTest;
beforeAll(async () => {
  space = await openSpace();
  tested = new LinearsUnderTest(space);
});
afterAll(async () => {
  await space.gpu.destroy();
});

describe('bnb4 linear', () => {
  test.each([false, true])('rows of whole blocks, nested %s', async (nested) => {
    const bias = gaussians(65, 3);
    const weight = bnb4Of(gaussians(65 * 192, 1), 192, { quantType: 'nf4', blockSize: 64, nested, bias });
    expect(await tested.worstError(weight, nested ? [1, 3, 9] : TOKENS)).toBeLessThan(F32_TOLERANCE);
  });

  const cases = (['nf4', 'fp4'] as const).flatMap((quantType) =>
    [32, 64, 128, 256, 1024, 4096].map((blockSize) => ({ quantType, blockSize })),
  );
  test.each(cases)('$quantType, blocks of $blockSize, nested or not', async ({ quantType, blockSize }) => {
    for (const inFeatures of [256, 96])
      for (const nested of [false, true]) {
        const bias = gaussians(37, 3);
        const weight = bnb4Of(gaussians(37 * inFeatures, 1), inFeatures, { quantType, blockSize, nested, bias });
        expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
      }
  });

  test.each([
    [1, 1, 64],
    [3, 5, 32],
    [9, 172, 64],
    [7, 33, 64],
    [130, 100, 4096],
    [2, 7, 3],
  ])('[%i, %i] in blocks of %i, which end anywhere', async (outFeatures, inFeatures, blockSize) => {
    for (const nested of [false, true]) {
      const values = gaussians(outFeatures * inFeatures, 4);
      const bias = gaussians(outFeatures, 5);
      const weight = bnb4Of(values, inFeatures, { quantType: 'nf4', blockSize, nested, bias });
      expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
    }
  });

  test('largest magnitudes, and a block of zeros', async () => {
    const values = new Float32Array(8 * 4096).map((_, i) => (i < 64 ? 0 : i % 3 === 0 ? 5 : -5));
    const weight = bnb4Of(values, 4096, { quantType: 'nf4', blockSize: 64, bias: new Float32Array(8) });
    const make = (count: number) => new Float32Array(count).map((_, i) => (i % 3 === 0 ? 2 : -2));
    expect(await tested.worstError(weight, [1, 9], make)).toBeLessThan(F32_TOLERANCE);
  });

  test('codes stay 4 bits, and nested maxima stay codes', async () => {
    const values = gaussians(256 * 1024, 1);
    const bitsOf = async (inFeatures: number, nested: boolean) => {
      const own = values.subarray(0, 256 * inFeatures);
      const weight = bnb4Of(own, inFeatures, { quantType: 'nf4', blockSize: 64, nested });
      return ((await tested.linears.load(weight, 'weight')).bytes * 8) / own.length;
    };
    // Scales 0.5 bits a weight; nested 0.125 and, by the maker's blocks of three, 0.17.
    expect(await bitsOf(1024, false)).toBeLessThan(4.6);
    expect(await bitsOf(1024, true)).toBeLessThan(4.4);
    expect(await bitsOf(1020, false)).toBeLessThan(4.6);
  });
});
