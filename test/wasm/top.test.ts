/** The likeliest tokens and the sums of rows, against plain loops; and the soft cap. */
import { describe, expect, test } from 'vitest';
import { topLogits } from '../../core/model/top-logits.ts';
import { gaussians, place, tokensBatch } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { relativeError } from './oracle.ts';

/** exp in f32, within 2 ulp; its sum in f64, the logarithm in f64, rounded to f32. */
const LOG_TOLERANCE = 1e-6;

describe.each(VARIANTS)('top, %s', (variant) => {
  test.each([
    [1, 1, 1],
    [3, 5, 2],
    [2, 64, 64],
    [2, 33, 64],
    [4, 1003, 64],
    [1, 32000, 40],
    [17, 100, 1],
  ])('%i rows of %i logits, the first %i', async (rows, cols, count) => {
    const backend = await backendOf(variant);
    // Many are equal: their ids decide.
    const logits = gaussians(rows * cols, cols).map((value) => Math.round(value * 64) / 8);
    const temperatures = Float32Array.from({ length: rows }, (_, row) => [0, 1, 0.7, 2][row % 4]!);
    backend.begin(tokensBatch(rows));
    const got = await backend.top(await place(backend, logits, cols), count, temperatures);
    const want = topLogits(logits, rows, cols, count, temperatures);
    expect(got.count).toBe(want.count);
    expect(got.ids).toEqual(want.ids);
    expect(got.logits).toEqual(want.logits);
    expect(relativeError(got.logTotals, want.logTotals)).toBeLessThan(LOG_TOLERANCE);
    expect(relativeError(got.scaledLogTotals, want.scaledLogTotals)).toBeLessThan(LOG_TOLERANCE);
  });

  test('a NaN makes the sum NaN, an infinity is the sum, and the other rows are as they were', async () => {
    const backend = await backendOf(variant);
    const logits = gaussians(4 * 20, 1);
    logits[3] = Number.NaN;
    logits[25] = Number.POSITIVE_INFINITY;
    logits.fill(Number.NEGATIVE_INFINITY, 40, 60);
    backend.begin(tokensBatch(4));
    const { logTotals } = await backend.top(await place(backend, logits, 20), 1, new Float32Array(4));
    const want = topLogits(logits, 4, 20, 1, new Float32Array(4)).logTotals;
    expect([...logTotals.subarray(0, 3)]).toEqual([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(logTotals[3]).toBeCloseTo(want[3]!, 5);
  });

  test('softcap bends all logits, in place', async () => {
    const backend = await backendOf(variant);
    const x = gaussians(3 * 7, 1).map((value) => value * 20);
    backend.begin(tokensBatch(3));
    const onX = await place(backend, x, 7);
    backend.softcap(onX, 30);
    const want = Float64Array.from(x, (value) => 30 * Math.tanh(value / 30));
    expect(relativeError(await backend.read(onX), want)).toBeLessThan(LOG_TOLERANCE);
  });
});
