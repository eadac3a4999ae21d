/** The GPTQ linears against dequantised weights, on shapes that miss every tile, chunk and word. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { GptqWeight } from '../../core/model/backend.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians, gptqOf } from '../wasm/inputs.ts';
import { dequantize, linear, relativeError } from '../wasm/oracle.ts';
import { openSpace } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest, TOKENS } from './linear-under-test.ts';

const BITS = [2, 3, 4, 8] as const;

let space: Space;
let tested: LinearsUnderTest;
beforeAll(async () => {
  space = await openSpace();
  tested = new LinearsUnderTest(space);
});
afterAll(async () => {
  await space.gpu.destroy();
});

describe('GPTQ linear', () => {
  test('4 bits: every number of tokens', async () => {
    const weight = gptqOf({ outFeatures: 65, inFeatures: 160, groupSize: 64, sym: false, bias: true });
    expect(await tested.worstError(weight, TOKENS)).toBeLessThan(F32_TOLERANCE);
  });

  test.each(BITS)('%i bits: the shapes of kernels that differ, both ways of zeros', async (bits) => {
    for (const sym of [true, false]) {
      const weight = gptqOf({ outFeatures: 65, inFeatures: 160, groupSize: 64, bits, sym, bias: true });
      expect(await tested.worstError(weight, [1, 3, 9])).toBeLessThan(F32_TOLERANCE);
    }
  });

  test.each(BITS.flatMap((bits) => [7, 32, 64, 128, 512].map((groupSize) => ({ bits, groupSize }))))(
    '$bits bits in groups of $groupSize, in order and by activation',
    async ({ bits, groupSize }) => {
      for (const actOrder of [false, true]) {
        const shape = { outFeatures: 17, inFeatures: 512, groupSize, bits, sym: false, actOrder, bias: true };
        expect(await tested.worstError(gptqOf(shape), [1, 9])).toBeLessThan(F32_TOLERANCE);
      }
    },
  );

  test.each([
    { outFeatures: 1, inFeatures: 8, groupSize: 32 },
    { outFeatures: 3, inFeatures: 33, groupSize: 32 },
    { outFeatures: 7, inFeatures: 40, groupSize: 32 },
    { outFeatures: 9, inFeatures: 264, groupSize: 128 },
    { outFeatures: 64, inFeatures: 72, groupSize: 72 },
    { outFeatures: 15, inFeatures: 104, groupSize: 64 },
    { outFeatures: 17, inFeatures: 2056, groupSize: 2056 },
    { outFeatures: 130, inFeatures: 37, groupSize: 11 },
  ])('out $outFeatures, in $inFeatures, group $groupSize: nothing divides', async (shape) => {
    for (const bits of BITS)
      for (const actOrder of [false, true]) {
        const weight = gptqOf({ ...shape, bits, sym: false, actOrder, bias: true });
        expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
      }
  });

  test('any group index: groups of any size, some without channels', async () => {
    const weight = gptqOf({ outFeatures: 13, inFeatures: 96, groupSize: 16, sym: false, bias: true });
    weight.gIdx = Int32Array.from({ length: 96 }, (_, k) => (k % 7 === 0 ? 5 : k < 50 ? 3 : 0));
    expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
  });

  test.each(BITS)('every stored zero of %i bits wraps within them, v1 and v2', async (bits) => {
    const outFeatures = 2 ** bits;
    for (const zeroOffset of [0, 1] as const) {
      const weight = gptqOf({ outFeatures, inFeatures: 64, groupSize: 64, bits, sym: false, zeroOffset, bias: true });
      weight.qzeros.fill(0);
      for (let n = 0; n < outFeatures; n++)
        for (let i = 0, bit = n * bits; i < bits; i++, bit++) weight.qzeros[bit >> 5]! |= ((n >> i) & 1) << (bit & 31);
      expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
    }
  });

  test.each(BITS)('symmetric %i bits of both zero formats', async (bits) => {
    for (const zeroOffset of [0, 1] as const) {
      const weight = gptqOf({
        outFeatures: 40,
        inFeatures: 64,
        groupSize: 64,
        bits,
        sym: true,
        zeroOffset,
        bias: true,
      });
      expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
    }
  });

  test.each(BITS)('largest magnitudes: all %i bits set', async (bits) => {
    const weight = gptqOf({
      outFeatures: 8,
      inFeatures: 4096,
      groupSize: 4096,
      bits,
      sym: false,
      zeroOffset: 0,
      bias: true,
    });
    weight.qweight.fill(-1);
    weight.qzeros.fill(0);
    const make = (count: number) => new Float32Array(count).map((_, i) => (i < 4096 ? -3 : i % 2 === 0 ? 3 : -2.5));
    expect(await tested.worstError(weight, [1, 9], make)).toBeLessThan(F32_TOLERANCE);
  });

  test('f16 subnormal scales and activations far from 1', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 96, groupSize: 32, sym: true, bias: true });
    weight.bias!.fill(0);
    weight.scales.set([0x0001, 0x03ff, 0x8001, 0x0400, 0x7bff, 0xfbff, 0x0000, 0x8000]);
    for (const size of [1e-12, 1, 1e12]) {
      const make = (count: number, seed: number) => gaussians(count, seed).map((value) => value * size);
      expect(await tested.worstError(weight, [1, 9], make)).toBeLessThan(F32_TOLERANCE);
    }
  });

  test('f16 subnormal scales alone keep their digits', async () => {
    const weight = gptqOf({ outFeatures: 4, inFeatures: 32, groupSize: 32, sym: true, bias: true });
    weight.bias!.fill(0);
    weight.scales.set([0x0001, 0x03ff, 0x8001, 0x0013]);
    expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
  });

  test('a row of zeros gives the bias', async () => {
    const weight = gptqOf({ outFeatures: 11, inFeatures: 64, groupSize: 64, sym: false, bias: true });
    expect(await tested.product(weight, new Float32Array(64))).toEqual(weight.bias);
  });

  test('an infinite or NaN activation is not hidden, and stays in its row', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 64, groupSize: 64, sym: true, bias: true });
    for (const tokens of [2, 9])
      for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const x = gaussians(tokens * 64, 6);
        x[5] = poison;
        const y = await tested.product(weight, x);
        expect(y.subarray(0, 8).some(Number.isFinite)).toBe(false);
        expect(y.subarray(8).every(Number.isFinite)).toBe(true);
      }
  });

  test.each(BITS)('weights of %i bits stay packed', async (bits) => {
    const size = { outFeatures: 256, inFeatures: 1024, bits };
    const weight = gptqOf({ ...size, groupSize: 128, sym: true, actOrder: true });
    const { bytes } = await tested.linears.load(weight, 'weight');
    // Scales 0.125 bits a weight, the channels' order as much.
    expect((bytes * 8) / (256 * 1024)).toBeLessThan(bits + 0.3);
  });

  test('long rows of a narrow weight: the channels are shared between workgroups', async () => {
    const weight: GptqWeight = gptqOf({ outFeatures: 40, inFeatures: 4096, groupSize: 128, sym: true, bias: true });
    const x = gaussians(17 * 4096, 3);
    const loaded = await tested.linears.load(weight, 'weight');
    expect(tested.linears.kernelNames(loaded, 17).some((name) => name.startsWith('sum_shares'))).toBe(true);
    const y = await tested.product(weight, x);
    expect(relativeError(y, linear(x, dequantize(weight), weight.bias, 4096))).toBeLessThan(F32_TOLERANCE);
  });
});
