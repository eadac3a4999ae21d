/** The norms, adding, and the ops that move rows and columns. */
import { describe, expect, test } from 'vitest';
import { gaussians, place, ROW_COUNTS, tokensBatch } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { layerNorm, relativeError, rmsNorm } from './oracle.ts';

/** A handful of f32 roundings an element. */
const ELEMENT_TOLERANCE = 1e-6;

describe.each(VARIANTS)('row ops, %s', (variant) => {
  test.each([1, 3, 4, 7, 64, 66, 1023])('rmsNorm and addRmsNorm over %i columns', async (cols) => {
    const backend = await backendOf(variant);
    const scale = gaussians(cols, 1);
    const weight = backend.loadVector(scale, 'norm');
    for (const rows of ROW_COUNTS) {
      const x = gaussians(rows * cols, rows);
      const residual = gaussians(rows * cols, rows + 1);
      // The last row is all negative.
      x.subarray((rows - 1) * cols).forEach((value, i) => {
        x[(rows - 1) * cols + i] = -Math.abs(value);
      });
      backend.begin(tokensBatch(rows));
      const onX = await place(backend, x, cols);
      const onResidual = await place(backend, residual, cols);
      const plain = await backend.read(backend.rmsNorm(onX, weight, 1e-5));
      expect(relativeError(plain, rmsNorm(x, scale, 1e-5))).toBeLessThan(ELEMENT_TOLERANCE);

      const added = await backend.read(backend.addRmsNorm(onResidual, onX, weight, 1e-5));
      const sum = residual.map((value, i) => value + x[i]!);
      expect(await backend.read(onResidual)).toEqual(sum);
      expect(relativeError(added, rmsNorm(sum, scale, 1e-5))).toBeLessThan(ELEMENT_TOLERANCE);
      expect(await backend.read(onX)).toEqual(x);
    }
  });

  test.each([1, 3, 4, 7, 64, 66, 1023])('layerNorm over %i columns, with and without bias', async (cols) => {
    const backend = await backendOf(variant);
    const [scale, shift] = [gaussians(cols, 1), gaussians(cols, 2)];
    const [weight, bias] = [backend.loadVector(scale, 'norm'), backend.loadVector(shift, 'norm')];
    for (const rows of ROW_COUNTS) {
      // Means away from 0, in the last row far away.
      const x = gaussians(rows * cols, rows).map((value, i) => value + (i < (rows - 1) * cols ? 1 : 30));
      backend.begin(tokensBatch(rows));
      const onX = await place(backend, x, cols);
      // The mean of 30 is rounded to f32, and that is what the deviations lose.
      const tolerance = 1e-5;
      const plain = await backend.read(backend.layerNorm(onX, weight, null, 1e-5));
      expect(relativeError(plain, layerNorm(x, scale, null, 1e-5))).toBeLessThan(tolerance);
      const shifted = await backend.read(backend.layerNorm(onX, weight, bias, 1e-5));
      expect(relativeError(shifted, layerNorm(x, scale, shift, 1e-5))).toBeLessThan(tolerance);
    }
  });

  test('add changes the residual in place, to the last value', async () => {
    const backend = await backendOf(variant);
    const [x, residual] = [gaussians(3 * 7, 1), gaussians(3 * 7, 2)];
    backend.begin(tokensBatch(3));
    const [onX, onResidual] = [await place(backend, x, 7), await place(backend, residual, 7)];
    backend.add(onResidual, onX);
    expect(await backend.read(onResidual)).toEqual(residual.map((value, i) => value + x[i]!));
    expect(await backend.read(onX)).toEqual(x);
  });

  test('columns puts ranges of every row side by side, in any order and repeated', async () => {
    const backend = await backendOf(variant);
    const x = gaussians(3 * 10, 1);
    const ranges = [
      { begin: 7, count: 3 },
      { begin: 0, count: 2 },
      { begin: 1, count: 0 },
      { begin: 0, count: 5 },
    ];
    backend.begin(tokensBatch(3));
    const y = backend.columns(await place(backend, x, 10), ranges);
    expect([y.rows, y.cols]).toEqual([3, 10]);
    const want = [0, 1, 2].flatMap((row) =>
      ranges.flatMap(({ begin, count }) => [...x.subarray(row * 10 + begin, row * 10 + begin + count)]),
    );
    expect([...(await backend.read(y))]).toEqual(want);
  });

  test('reshape is another name for the same numbers', async () => {
    const backend = await backendOf(variant);
    const x = gaussians(4 * 6, 1);
    backend.begin(tokensBatch(4));
    const onX = await place(backend, x, 6);
    const heads = backend.reshape(onX, 8, 3);
    expect([heads.rows, heads.cols]).toEqual([8, 3]);
    backend.add(heads, heads);
    expect(await backend.read(onX)).toEqual(x.map((value) => 2 * value));
  });

  test('gatherRows copies rows in the given order', async () => {
    const backend = await backendOf(variant);
    const x = gaussians(5 * 3, 1);
    backend.begin(tokensBatch(5));
    const rows = [4, 0, 4, 2];
    const y = backend.gatherRows(await place(backend, x, 3), Int32Array.from(rows));
    expect([y.rows, y.cols]).toEqual([4, 3]);
    expect([...(await backend.read(y))]).toEqual(rows.flatMap((row) => [...x.subarray(row * 3, row * 3 + 3)]));
    expect(backend.gatherRows(y, new Int32Array(0)).rows).toBe(0);
  });
});
