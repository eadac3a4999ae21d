/** exp, the norms, the gated activation and row gathering. */
import { describe, expect, test } from 'vitest';
import { gaussians, place, ROW_COUNTS, tokensBatch } from './inputs.ts';
import { backendOf, kernelsOf, VARIANTS } from './kernel-set.ts';
import { gatedSilu, relativeError, rmsNorm } from './oracle.ts';

/** A handful of f32 roundings an element. */
const ELEMENT_TOLERANCE = 1e-6;

describe.each(VARIANTS)('exp, %s', (variant) => {
  function exp(x: Float32Array): Float32Array {
    const { kernels, memory } = kernelsOf(variant);
    const from = memory.step(x.byteLength);
    const to = memory.step(x.byteLength);
    memory.f32(from, x.length).set(x);
    kernels.exp_f32(from, to, x.length);
    return memory.f32(to, x.length).slice();
  }

  test('is within 2 ulp from -87 to 88.7', () => {
    const x = new Float32Array(1 << 20).map((_, i) => -87 + (i / (1 << 20)) * 175.7);
    const y = exp(x);
    let worst = 0;
    for (let i = 0; i < x.length; i++) {
      const want = Math.exp(x[i]!);
      const ulp = 2 ** (Math.floor(Math.log2(want)) - 23);
      worst = Math.max(worst, Math.abs(y[i]! - want) / ulp);
    }
    expect(worst).toBeLessThan(2);
  });

  test('is exactly 1 at 0, fades through the subnormals to 0, ends in infinity, and keeps NaN', () => {
    const y = exp(new Float32Array([0, -0, -100, -104, -1e30, Number.NEGATIVE_INFINITY, 89, Number.POSITIVE_INFINITY]));
    expect([...y.subarray(0, 2)]).toEqual([1, 1]);
    // 3.8e-44 is 27 steps of the smallest subnormal.
    expect(Math.abs(y[2]! - Math.exp(-100))).toBeLessThanOrEqual(2 ** -149);
    expect([...y.subarray(3)]).toEqual([0, 0, 0, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
    expect([...exp(new Float32Array([Number.NaN, 1, 1, 1]))].map(Number.isNaN)).toEqual([true, false, false, false]);
  });
});

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

  test.each([
    [1, 1],
    [3, 5],
    [2, 172],
    [17, 9],
  ])('gatedSilu [%i, %i], far out on both sides too', async (rows, cols) => {
    const backend = await backendOf(variant);
    const gate = gaussians(rows * cols, 1).map((value, i) => value * (i % 3 === 0 ? 60 : 1));
    const up = gaussians(rows * cols, 2);
    backend.begin(tokensBatch(rows));
    const onGate = await place(backend, gate, cols);
    const onUp = await place(backend, up, cols);
    const y = await backend.read(backend.gatedSilu(onGate, onUp));
    expect(relativeError(y, gatedSilu(gate, up))).toBeLessThan(ELEMENT_TOLERANCE);
    expect(await backend.read(onGate)).toEqual(gate);
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
