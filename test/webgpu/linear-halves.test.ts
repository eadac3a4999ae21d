/** 4-bit GPTQ linears in f16, where the adapter has it. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians, gptqOf } from '../wasm/inputs.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';
import { LinearsUnderTest } from './linear-under-test.ts';

/** The bar for f16: rounding activations and sums of eight to 11 bits is about 4e-4 of a Gaussian row. */
const F16_TOLERANCE = 2e-3;

let space: Space;
let tested: LinearsUnderTest;
beforeAll(async () => {
  space = await openSpace({ precision: 'auto' });
  tested = new LinearsUnderTest(space);
});
afterAll(async () => {
  await space.gpu.destroy();
});

describe('GPTQ linear in f16', () => {
  beforeEach((context) => {
    context.skip(!space.gpu.features.f16, 'the adapter has no f16');
  });

  test.each([true, false])('every number of tokens, sym %s', async (sym) => {
    const weight = gptqOf({ outFeatures: 65, inFeatures: 160, groupSize: 64, sym, bias: true });
    const loaded = await tested.linears.load(weight, 'weight');
    expect(tested.linears.kernelNames(loaded, 1)[0]).toContain('HALVES');
    expect(await tested.worstError(weight, [1, 2, 3, 8, 9])).toBeLessThan(F16_TOLERANCE);
  });

  test('groups of 11, by activation, and rows that are no whole chunks', async () => {
    for (const actOrder of [true, false]) {
      const weight = gptqOf({ outFeatures: 17, inFeatures: 37, groupSize: 11, sym: false, actOrder, bias: true });
      expect(await tested.worstError(weight, [1, 3])).toBeLessThan(F16_TOLERANCE);
    }
  });

  test('activations far from 1, far apart, and all at the largest', async () => {
    const weight = gptqOf({ outFeatures: 64, inFeatures: 4096, groupSize: 128, sym: false, zeroOffset: 0, bias: true });
    weight.bias!.fill(0);
    for (const size of [1e-20, 1e6, 1e20]) {
      const make = (count: number, seed: number) => gaussians(count, seed).map((value) => value * size);
      expect(await tested.worstError(weight, [1], make)).toBeLessThan(F16_TOLERANCE);
    }
    const spiked = (count: number, seed: number) =>
      gaussians(count, seed).map((x, i) => (i % 1000 === 7 ? 5e3 * x : x));
    expect(await tested.worstError(weight, [1], spiked)).toBeLessThan(F16_TOLERANCE);
    weight.qweight.fill(-1);
    weight.qzeros.fill(0);
    const largest = (count: number) => new Float32Array(count).fill(511.9);
    expect(await tested.worstError(weight, [1], largest)).toBeLessThan(F16_TOLERANCE);
  });

  test('an infinite or NaN activation is not hidden, and a row of zeros gives the bias', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 64, groupSize: 64, sym: true, bias: true });
    for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const x = gaussians(2 * 64, 6);
      x[5] = poison;
      x.fill(0, 64);
      const y = await tested.product(weight, x);
      expect(y.subarray(0, 8).some(Number.isFinite)).toBe(false);
      expect(y.subarray(8)).toEqual(weight.bias);
    }
  });

  test('deterministic: a token gives the same bits alone and among 33', async () => {
    const { linears } = new LinearsUnderTest(space, { deterministic: true });
    const linear = await linears.load(
      gptqOf({ outFeatures: 40, inFeatures: 416, groupSize: 32, sym: false }),
      'weight',
    );
    const x = gaussians(33 * 416, 5);
    space.activations.begin();
    const all = await readBack(space, linears.run(place(space, x, 416), [linear])[0]!);
    for (const token of [0, 7, 32]) {
      space.activations.begin();
      const own = x.subarray(token * 416, (token + 1) * 416);
      const one = await readBack(space, linears.run(place(space, own, 416), [linear])[0]!);
      expect(one).toEqual(all.subarray(token * 40, (token + 1) * 40));
    }
  });
});
