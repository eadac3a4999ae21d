/** The NF4 and FP4 linears against dequantised weights: every block size, blocks that end with rows, inside rows and inside chunks. */
import { describe, expect, test } from 'vitest';
import type { Bnb4Weight } from '../../core/model/backend.ts';
import { bnb4Of, gaussians, ROW_COUNTS, runLinear } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantizeBnb4, linear, quantizeRow, relativeError } from './oracle.ts';

/** Int8 activations, as for GPTQ; the table's 14 bits add nothing that shows. */
const INT8_TOLERANCE = 1e-2;
/** The table's step is 1/8191 of its largest value, an error of 3.5e-5 against NF4's typical 0.4: 1e-4. */
const TABLE_TOLERANCE = 2e-4;
/** Where blocks end inside chunks, everything is in f32. */
const FLOAT_TOLERANCE = 2e-6;

describe.each(VARIANTS)('bnb4 linear, %s', (variant) => {
  async function errors(weight: Bnb4Weight, x: Float32Array): Promise<{ float: number; table: number }> {
    const y = await runLinear(await backendOf(variant), weight, x);
    const w = dequantizeBnb4(weight);
    const { inFeatures, bias } = weight;
    const quantized = Array.from({ length: x.length / inFeatures }, (_, row) => [
      ...quantizeRow(x.subarray(row * inFeatures, (row + 1) * inFeatures), 127),
    ]).flat();
    return {
      float: relativeError(y, linear(x, w, bias, inFeatures)),
      table: relativeError(y, linear(quantized, w, bias, inFeatures)),
    };
  }

  const cases = (['nf4', 'fp4'] as const).flatMap((quantType) =>
    [32, 64, 128, 256, 512, 1024, 2048, 4096].map((blockSize) => ({ quantType, blockSize })),
  );
  test.each(cases)('$quantType, blocks of $blockSize, nested or not', async ({ quantType, blockSize }) => {
    for (const inFeatures of [256, 96])
      for (const nested of [false, true]) {
        const bias = gaussians(37, 3);
        const weight = bnb4Of(gaussians(37 * inFeatures, 1), inFeatures, { quantType, blockSize, nested, bias });
        const error = await errors(weight, gaussians(5 * inFeatures, 2));
        expect(error.float).toBeLessThan(INT8_TOLERANCE);
        expect(error.table).toBeLessThan(TABLE_TOLERANCE);
      }
  });

  test.each([
    [1, 1, 64],
    [3, 5, 32],
    [9, 172, 64],
    [7, 33, 64],
    [5, 100, 4096],
    [2, 7, 3],
  ])('[%i, %i] in blocks of %i, which end anywhere: in f32', async (outFeatures, inFeatures, blockSize) => {
    for (const nested of [false, true]) {
      const values = gaussians(outFeatures * inFeatures, 4);
      const bias = gaussians(outFeatures, 5);
      const weight = bnb4Of(values, inFeatures, { quantType: 'nf4', blockSize, nested, bias });
      expect((await errors(weight, gaussians(6 * inFeatures, 6))).float).toBeLessThan(FLOAT_TOLERANCE);
    }
  });

  test.each(ROW_COUNTS)('%i rows', async (rows) => {
    const weight = bnb4Of(gaussians(24 * 160, 1), 160, { quantType: 'nf4', blockSize: 64 });
    expect((await errors(weight, gaussians(rows * 160, rows))).table).toBeLessThan(TABLE_TOLERANCE);
  });

  test('largest magnitudes, and a block of zeros', async () => {
    const values = new Float32Array(8 * 4096).map((_, i) => (i < 64 ? 0 : i % 3 === 0 ? 5 : -5));
    const weight = bnb4Of(values, 4096, { quantType: 'nf4', blockSize: 64 });
    const x = new Float32Array(5 * 4096).map((_, i) => (i % 3 === 0 ? 2 : -2));
    expect((await errors(weight, x)).table).toBeLessThan(TABLE_TOLERANCE);
  });

  test('codes stay 4 bits', async () => {
    const backend = await backendOf(variant);
    const values = gaussians(256 * 1024, 1);
    const { bytes } = await backend.loadLinear(bnb4Of(values, 1024, { quantType: 'nf4', blockSize: 64 }), 'weight');
    // Scales 0.5 bits a weight.
    expect((bytes * 8) / values.length).toBeLessThan(4.6);
    const odd = bnb4Of(values.subarray(0, 256 * 1020), 1020, { quantType: 'nf4', blockSize: 64 });
    expect(((await backend.loadLinear(odd, 'odd')).bytes * 8) / (256 * 1020)).toBeLessThan(4.6);
  });
});
