/** The GPTQ linears against dequantised weights, on shapes that miss every tile. */
import { describe, expect, test } from 'vitest';
import type { GptqWeight } from '../../core/model/backend.ts';
import { gaussians, gptqOf, ROW_COUNTS, runLinear } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantize, linear, quantizeRow, relativeError } from './oracle.ts';

/** Int8 activations in chunks of 32: a rounding error uniform in a step of absmax/127 is about 0.6% of a Gaussian group's norm. */
const INT8_TOLERANCE = 1e-2;
/** The same integers, so only the f32 sum over groups differs from f64. */
const SUM_TOLERANCE = 1e-5;

function quantized(x: Float32Array, { inFeatures, groupSize, gIdx, bits }: GptqWeight): Float64Array {
  const groupOf = (k: number) => gIdx?.[k] ?? Math.floor(k / groupSize);
  const rows = Array.from({ length: x.length / inFeatures }, (_, row) =>
    quantizeRow(x.subarray(row * inFeatures, (row + 1) * inFeatures), bits === 8 ? 1023 : 127, groupOf),
  );
  return Float64Array.from(rows.flatMap((row) => [...row]));
}

const BITS = [2, 3, 4, 8] as const;

describe.each(VARIANTS)('GPTQ linear, %s', (variant) => {
  async function errors(weight: GptqWeight, x: Float32Array): Promise<{ int8: number; sum: number }> {
    const backend = await backendOf(variant);
    const y = await runLinear(backend, weight, x);
    const w = dequantize(weight);
    return {
      int8: relativeError(y, linear(x, w, weight.bias, weight.inFeatures)),
      sum: relativeError(y, linear(quantized(x, weight), w, weight.bias, weight.inFeatures)),
    };
  }

  const groupSizes = [8, 16, 20, 32, 64, 96, 100, 128, 512];
  test.each(
    groupSizes.flatMap((groupSize) => BITS.flatMap((bits) => [true, false].map((sym) => ({ groupSize, bits, sym })))),
  )(
    'group size $groupSize, $bits bits, sym $sym: within 1% of the dequantised weights, and exact but for the sum over groups',
    async ({ groupSize, bits, sym }) => {
      const weight = gptqOf({ outFeatures: 72, inFeatures: 512, groupSize, bits, sym, bias: true, seed: groupSize });
      const error = await errors(weight, gaussians(5 * 512, 3));
      expect(error.int8).toBeLessThan(INT8_TOLERANCE);
      expect(error.sum).toBeLessThan(SUM_TOLERANCE);
    },
  );

  test.each(ROW_COUNTS)('%i rows', async (rows) => {
    for (const bits of BITS) {
      const weight = gptqOf({ outFeatures: 24, inFeatures: 160, groupSize: 64, bits, sym: false });
      const error = await errors(weight, gaussians(rows * 160, rows));
      expect(error.int8).toBeLessThan(INT8_TOLERANCE);
      expect(error.sum).toBeLessThan(SUM_TOLERANCE);
    }
  });

  test.each(BITS.flatMap((bits) => [8, 16, 43, 64, 100, 172].map((groupSize) => ({ bits, groupSize }))))(
    'act-order, $bits bits, group size $groupSize of 172',
    async ({ bits, groupSize }) => {
      for (const sym of [true, false]) {
        const shape = { outFeatures: 21, inFeatures: 172, groupSize, bits, sym, actOrder: true, bias: true };
        const error = await errors(gptqOf(shape), gaussians(6 * 172, groupSize));
        expect(error.int8).toBeLessThan(INT8_TOLERANCE);
        expect(error.sum).toBeLessThan(SUM_TOLERANCE);
      }
    },
  );

  test('any group index: groups of any size, some without channels', async () => {
    const weight = gptqOf({ outFeatures: 13, inFeatures: 96, groupSize: 16, sym: false });
    weight.gIdx = Int32Array.from({ length: 96 }, (_, k) => (k % 7 === 0 ? 5 : k < 50 ? 3 : 0));
    const error = await errors(weight, gaussians(5 * 96, 8));
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
    { outFeatures: 10, inFeatures: 37, groupSize: 11 },
  ])('out $outFeatures, in $inFeatures, group $groupSize: neither divides a tile, nor a word', async (shape) => {
    for (const bits of BITS)
      for (const sym of [true, false]) {
        const error = await errors(gptqOf({ ...shape, bits, sym, bias: true }), gaussians(6 * shape.inFeatures, 5));
        expect(error.sum).toBeLessThan(SUM_TOLERANCE);
      }
  });

  test.each(BITS)('every stored zero of %i bits wraps within them, v1 and v2', async (bits) => {
    const outFeatures = 2 ** bits;
    for (const zeroOffset of [0, 1] as const) {
      const weight = gptqOf({ outFeatures, inFeatures: 64, groupSize: 64, bits, sym: false, zeroOffset });
      weight.qzeros.fill(0);
      for (let n = 0; n < outFeatures; n++)
        for (let i = 0, bit = n * bits; i < bits; i++, bit++) weight.qzeros[bit >> 5]! |= ((n >> i) & 1) << (bit & 31);
      expect((await errors(weight, gaussians(2 * 64, 9))).sum).toBeLessThan(SUM_TOLERANCE);
    }
  });

  test.each(BITS)('largest magnitudes: all %i bits set, all activations at ±absmax', async (bits) => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 4096, groupSize: 4096, bits, sym: false, zeroOffset: 0 });
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

  test.each(BITS)('weights of %i bits stay packed', async (bits) => {
    const size = { outFeatures: 256, inFeatures: 1024, bits };
    const weight = gptqOf({ ...size, groupSize: 128, sym: true, actOrder: true });
    const { bytes } = await (await backendOf(variant)).loadLinear(weight, 'weight');
    // Scales 0.125 bits a weight, bias and places 0.16.
    expect((bytes * 8) / (256 * 1024)).toBeLessThan(bits + 0.3);
  });
});
