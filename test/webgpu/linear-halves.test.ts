/** Linears of few tokens in f16, where the adapter has it: GPTQ of every width, NF4 and FP4. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { LinearWeight } from '../../core/model/backend.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { bnb4Of, gaussians, gptqOf } from '../wasm/inputs.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest } from './linear-under-test.ts';

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

const BITS = [2, 3, 4, 8] as const;

describe('linear in f16', () => {
  beforeEach((context) => {
    context.skip(!space.gpu.features.f16, 'the adapter has no f16');
  });

  async function expectClose(weight: LinearWeight, tokens: readonly number[], make = gaussians): Promise<void> {
    const loaded = await tested.linears.load(weight, 'weight');
    expect(tested.linears.kernelNames(loaded, 1)[0]).toContain('HALVES');
    expect(await tested.worstError(weight, tokens, make)).toBeLessThan(F16_TOLERANCE);
  }

  test.each(BITS)('%i bits, every number of tokens, both ways of zeros', async (bits) => {
    const shape = { outFeatures: 65, inFeatures: 160, groupSize: 64, bits, bias: true };
    // Each number is a kernel of its own, which software GPUs compile for long.
    await expectClose(gptqOf({ ...shape, sym: false }), bits === 4 ? [1, 2, 3, 8] : [1, 3]);
    await expectClose(gptqOf({ ...shape, sym: true }), [1]);
  });

  test.each(BITS)('%i bits in groups of 11, by activation, and rows that are no whole chunks', async (bits) => {
    for (const actOrder of [true, false]) {
      const weight = gptqOf({ outFeatures: 17, inFeatures: 37, groupSize: 11, bits, sym: false, actOrder, bias: true });
      await expectClose(weight, [1, 3]);
    }
  });

  test.each(BITS)('%i bits, activations far from 1, far apart, and all at the largest', async (bits) => {
    const shape = { outFeatures: 16, inFeatures: 2048, groupSize: 128, bits, sym: false, zeroOffset: 0 } as const;
    const weight = gptqOf(shape);
    for (const size of [1e-20, 1e6, 3e35]) await expectClose(weight, [1], sized(size));
    await expectClose(weight, [1], spiked);
    weight.qweight.fill(-1);
    weight.qzeros.fill(0);
    await expectClose(weight, [1], (count) => new Float32Array(count).fill(511.9));
  });

  test.each(['nf4', 'fp4'] as const)('%s, plain and nested, every number of tokens', async (quantType) => {
    const bias = gaussians(65, 2);
    for (const nested of [false, true]) {
      const weight = bnb4Of(gaussians(65 * 160, 1), 160, { quantType, blockSize: 32, nested, bias });
      await expectClose(weight, nested ? [1] : [1, 3, 8]);
    }
    await expectClose(bnb4Of(gaussians(17 * 96, 1), 96, { quantType, blockSize: 64 }), [1]);
  });

  test('NF4, activations far from 1, far apart, and weights far from 1', async () => {
    const weight = bnb4Of(gaussians(16 * 2048, 1), 2048, { quantType: 'nf4', blockSize: 64 });
    for (const size of [1e-20, 1e6, 3e35]) await expectClose(weight, [1], sized(size));
    await expectClose(weight, [1], spiked);
    for (const size of [1e-12, 1e12]) {
      const values = gaussians(16 * 256, 1).map((value) => value * size);
      await expectClose(bnb4Of(values, 256, { quantType: 'nf4', blockSize: 64 }), [1]);
    }
  });

  test('in f32 all the same: 4-bit blocks that end anywhere, and tables beyond 1', async () => {
    const values = gaussians(17 * 95, 1);
    const anywhere = bnb4Of(values, 95, { quantType: 'nf4', blockSize: 64 });
    const beyond = bnb4Of(values.subarray(0, 16 * 64), 64, { quantType: 'nf4', blockSize: 64 });
    beyond.table[15] = 1000;
    for (const weight of [anywhere, beyond]) {
      const loaded = await tested.linears.load(weight, 'weight');
      expect(tested.linears.kernelNames(loaded, 1)[0]).not.toContain('HALVES');
      expect(await tested.worstError(weight, [1])).toBeLessThan(F32_TOLERANCE);
    }
  });

  test('an infinite or NaN activation is not hidden, and a row of zeros gives the bias', async () => {
    const bias = gaussians(8, 3);
    const packed = bnb4Of(gaussians(8 * 64, 1), 64, { quantType: 'nf4', blockSize: 64, bias });
    for (const weight of [gptqOf({ outFeatures: 8, inFeatures: 64, groupSize: 64, sym: true, bias: true }), packed])
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

function sized(size: number) {
  return (count: number, seed: number) => gaussians(count, seed).map((value) => value * size);
}

function spiked(count: number, seed: number): Float32Array {
  return gaussians(count, seed).map((x, i) => (i % 1000 === 7 ? 5e3 * x : x));
}
