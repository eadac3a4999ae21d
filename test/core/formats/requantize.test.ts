import { describe, expect, test } from 'vitest';
import { dequantizeGptq } from '../../../core/formats/gptq.ts';
import { f16ToF32, f32ToF16Array } from '../../../core/formats/half.ts';
import { requantizeTable } from '../../../core/formats/requantize.ts';
import { randomOf } from './random.ts';
import { tableOf } from './table-rows.ts';

function gaussian(count: number, seed: number): Float32Array {
  const random = randomOf(seed);
  return Float32Array.from({ length: count }, () =>
    Array.from({ length: 12 }, random).reduce((sum, value) => sum + value, -6),
  );
}

describe.each([8, 4] as const)('a table of %i bits', (bits) => {
  test.each([
    [1024, 256],
    [33, 32],
    [7, 100],
    [50, 20],
  ])('[%i, %i]: no value is further off than half its group’s scale', async (rows, cols) => {
    const values = gaussian(rows * cols, rows);
    const weight = await requantizeTable(tableOf(values, rows).table, bits);
    const back = dequantizeGptq(weight);
    values.forEach((value, i) => {
      const [row, k] = [Math.floor(i / cols), i % cols];
      const scale = f16ToF32(weight.scales[Math.floor(k / weight.groupSize) * rows + row]!);
      expect(Math.abs(value - back[i]!)).toBeLessThanOrEqual((scale / 2) * (1 + 1e-6));
    });
    // A Gaussian's largest of 32 is some 2.2 deviations, so half a step is 2.2 / 127 / 2 or 2.2 / 7 / 2; uniform in a step: over √3.
    const error = Math.sqrt(values.reduce((sum, value, i) => sum + (value - back[i]!) ** 2, 0) / values.length);
    expect(error).toBeLessThan(bits === 8 ? 0.0075 : 0.13);
  });

  test('f16 and f32 rows give the same weight where f16 holds the values', async () => {
    const halves = Float32Array.from(f32ToF16Array(gaussian(64 * 64, 3)), f16ToF32);
    const [wide, narrow] = await Promise.all([
      requantizeTable(tableOf(halves, 64).table, bits),
      requantizeTable(tableOf(halves, 64, 'f16').table, bits),
    ]);
    expect(narrow).toEqual(wide);
  });

  test('rows of zeros, one-sided rows, rows below f16’s normal numbers and rows of its largest stay within half a step', async () => {
    const cols = 32;
    const rowsOf = [
      () => 0,
      () => 1,
      () => -1,
      () => 1.4 * 2 ** -24,
      () => 60_000,
      (k: number) => (k === 5 ? -3 : 0.01),
    ];
    const values = Float32Array.from({ length: rowsOf.length * cols }, (_, i) =>
      rowsOf[Math.floor(i / cols)]!(i % cols),
    );
    const weight = await requantizeTable(tableOf(values, rowsOf.length).table, bits);
    const back = dequantizeGptq(weight);
    values.forEach((value, i) => {
      const scale = f16ToF32(weight.scales[Math.floor(i / cols)]!);
      // Below the least f16 there is nothing: 2^-25 is half of it.
      expect(Math.abs(value - back[i]!)).toBeLessThanOrEqual(Math.max((scale / 2) * (1 + 1e-6), 2 ** -25));
    });
  });

  test('values without a scale are refused with their row and tensor', async () => {
    for (const broken of [Number.NaN, Number.POSITIVE_INFINITY, 3e38]) {
      const values = new Float32Array(4 * 32).fill(1);
      values[70] = broken;
      await expect(requantizeTable(tableOf(values, 4).table, bits)).rejects.toThrow(
        'in memory: tensor "embedding.weight": row 2 holds values among 0..31 that no f16 scale',
      );
    }
  });
});

test('the table is read in blocks of rows, each once, in order', async () => {
  const { table, reads } = tableOf(gaussian(3000 * 256, 9), 3000);
  await requantizeTable(table, 8);
  expect(reads).toEqual([
    [0, 1024],
    [1024, 1024],
    [2048, 952],
  ]);
});
