/** The likeliest tokens and the totals of each row, against plain loops. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { topLogits } from '../../core/model/top-logits.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { top } from '../../gpu-worker/webgpu/top.ts';
import { gaussians } from '../wasm/inputs.ts';
import { openSpace, place } from './gpu-under-test.ts';

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

async function run(logits: Float32Array, rows: number, count: number, temperatures: Float32Array) {
  space.activations.begin();
  return top(space, place(space, logits, logits.length / rows), count, temperatures);
}

describe('top', () => {
  test.each([
    [1, 1, 1],
    [1, 7, 64],
    [3, 1000, 1],
    [2, 1024, 20],
    [5, 1025, 64],
    [17, 5000, 64],
    [1, 151_936, 40],
  ])('%i rows of %i logits, the %i likeliest', async (rows, cols, count) => {
    // Rounded, so that there are many equals.
    const logits = gaussians(rows * cols, 7).map((logit) => Math.round(logit * 64) / 8);
    const temperatures = Float32Array.from({ length: rows }, (_, row) => (row % 3 === 0 ? 0 : 0.5 + row / 4));
    const expected = topLogits(logits, rows, cols, count, temperatures);
    const found = await run(logits, rows, count, temperatures);
    expect(found.count).toBe(expected.count);
    expect(found.ids).toEqual(expected.ids);
    expect(found.logits).toEqual(expected.logits);
    found.logTotals.forEach((total, row) => {
      expect(Math.abs(total - expected.logTotals[row]!)).toBeLessThan(1e-5);
      expect(Math.abs(found.scaledLogTotals[row]! - expected.scaledLogTotals[row]!)).toBeLessThan(5e-5);
    });
  });

  test('a row that is not a distribution says so, and its neighbours do not', async () => {
    const logits = Float32Array.from([
      1,
      2,
      Number.NaN,
      3,
      4,
      5,
      -Infinity,
      -Infinity,
      -Infinity,
      -Infinity,
      7,
      -Infinity,
    ]);
    const { logTotals, ids } = await run(logits, 4, 2, new Float32Array(4));
    expect(logTotals[0]).toBeNaN();
    expect(logTotals[1]).toBeCloseTo(Math.log(Math.exp(3) + Math.exp(4) + Math.exp(5)), 5);
    expect(logTotals[2]).toBe(-Infinity);
    expect(logTotals[3]).toBeCloseTo(7, 5);
    expect(ids[6]).toBe(1);
  });
});
