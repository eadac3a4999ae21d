/** Ops that treat each row or value alone, against f64 oracles. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ActivationFunction } from '../../core/model/backend.ts';
import * as rowOps from '../../gpu-worker/webgpu/row-ops.ts';
import { gaussians, ROW_COUNTS } from '../wasm/inputs.ts';
import { activation, layerNorm, relativeError, rmsNorm } from '../wasm/oracle.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';

/** The bar for f32 kernels; a handful of roundings an element stays far below. */
const TOLERANCE = 1e-5;
const COLS = [1, 3, 4, 7, 64, 66, 255, 256, 257, 1023];

let space: rowOps.Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

function vector(values: Float32Array) {
  const buffer = space.gpu.pool.take(values.byteLength);
  space.gpu.write(buffer, 0, values.slice());
  return { length: values.length, buffer };
}

describe('norms', () => {
  test.each(COLS)('rmsNorm and addRmsNorm over %i columns', async (cols) => {
    const scale = gaussians(cols, 1);
    const weight = vector(scale);
    for (const rows of ROW_COUNTS) {
      space.activations.begin();
      const x = gaussians(rows * cols, rows);
      const residual = gaussians(rows * cols, rows + 1);
      // The last row is all negative.
      for (let i = (rows - 1) * cols; i < x.length; i++) x[i] = -Math.abs(x[i]!);
      const onX = place(space, x, cols);
      const onResidual = place(space, residual, cols);
      const plain = await readBack(space, rowOps.rmsNorm(space, onX, weight, 1e-5));
      expect(relativeError(plain, rmsNorm(x, scale, 1e-5))).toBeLessThan(TOLERANCE);
      const added = await readBack(space, rowOps.addRmsNorm(space, onResidual, onX, weight, 1e-5));
      const sum = residual.map((value, i) => value + x[i]!);
      expect(await readBack(space, onResidual)).toEqual(sum);
      expect(relativeError(added, rmsNorm(sum, scale, 1e-5))).toBeLessThan(TOLERANCE);
      expect(await readBack(space, onX)).toEqual(x);
    }
  });

  test.each(COLS)('layerNorm over %i columns, with and without bias', async (cols) => {
    const [scale, shift] = [gaussians(cols, 1), gaussians(cols, 2)];
    const [weight, bias] = [vector(scale), vector(shift)];
    for (const rows of ROW_COUNTS) {
      space.activations.begin();
      const x = gaussians(rows * cols, rows).map((value, i) => value + (i < (rows - 1) * cols ? 1 : 30));
      const onX = place(space, x, cols);
      // One column is its own mean: what is left is rounding against eps.
      const tolerance = cols === 1 ? 1e-2 : TOLERANCE;
      const plain = await readBack(space, rowOps.layerNorm(space, onX, weight, null, 1e-5));
      expect(relativeError(plain, layerNorm(x, scale, null, 1e-5))).toBeLessThan(tolerance);
      const shifted = await readBack(space, rowOps.layerNorm(space, onX, weight, bias, 1e-5));
      expect(relativeError(shifted, layerNorm(x, scale, shift, 1e-5))).toBeLessThan(tolerance);
    }
  });
});

describe('values one by one', () => {
  const SPREAD = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 100);

  test.each<ActivationFunction>(['relu', 'gelu', 'gelu_tanh', 'silu'])(
    '%s from −20 to 20, alone and gated',
    async (f) => {
      space.activations.begin();
      const up = gaussians(SPREAD.length, 3);
      const alone = await readBack(space, rowOps.activate(space, f, place(space, SPREAD, SPREAD.length)));
      const gated = await readBack(
        space,
        rowOps.gated(space, f, place(space, SPREAD, SPREAD.length), place(space, up, SPREAD.length)),
      );
      SPREAD.forEach((x, i) => {
        const expected = activation(f, x);
        // Relative where the result is normal; exp on a GPU may lose 3 + 2|x| units in the last place (WGSL, accuracy of built-in functions).
        const tolerance = Math.abs(expected) * 2e-5 + 1e-30;
        expect(Math.abs(alone[i]! - expected), `${f}(${x})`).toBeLessThanOrEqual(tolerance);
        expect(Math.abs(gated[i]! - expected * up[i]!), `${f}(${x}) gated`).toBeLessThanOrEqual(
          tolerance * Math.abs(up[i]!) + 1e-30,
        );
      });
    },
  );

  test.each([1, 5, 256, 70_000])('add and softcap over %i values', async (count) => {
    space.activations.begin();
    const [x, residual] = [gaussians(count, 1), gaussians(count, 2)];
    const [onX, onResidual] = [place(space, x, count), place(space, residual, count)];
    rowOps.add(space, onResidual, onX);
    const sum = residual.map((value, i) => value + x[i]!);
    expect(await readBack(space, onResidual)).toEqual(sum);
    rowOps.softcap(space, onX, 1.5);
    const capped = Float64Array.from(x, (value) => 1.5 * Math.tanh(value / 1.5));
    expect(relativeError(await readBack(space, onX), capped)).toBeLessThan(1e-6);
  });
});

describe('rows and columns', () => {
  test('columns and gatherRows copy exactly, in the given order', async () => {
    space.activations.begin();
    const x = gaussians(17 * 31, 1);
    const onX = place(space, x, 31);
    const ranges = [
      { begin: 20, count: 11 },
      { begin: 0, count: 3 },
      { begin: 2, count: 1 },
    ];
    const order = ranges.flatMap(({ begin, count }) => Array.from({ length: count }, (_, i) => begin + i));
    const columns = rowOps.columns(space, onX, ranges);
    expect([columns.rows, columns.cols]).toEqual([17, 15]);
    expect(await readBack(space, columns)).toEqual(
      Float32Array.from({ length: 17 * 15 }, (_, i) => x[Math.floor(i / 15) * 31 + order[i % 15]!]!),
    );
    const rows = Int32Array.of(16, 0, 3, 3);
    expect(await readBack(space, rowOps.gatherRows(space, onX, rows))).toEqual(
      Float32Array.from({ length: 4 * 31 }, (_, i) => x[rows[Math.floor(i / 31)]! * 31 + (i % 31)]!),
    );
  });

  test('what does not fit is refused', () => {
    space.activations.begin();
    const x = place(space, new Float32Array(6), 3);
    expect(() => rowOps.columns(space, x, [{ begin: 2, count: 2 }])).toThrow('columns 2..4 of 3');
    expect(() => rowOps.gatherRows(space, x, Int32Array.of(2))).toThrow('row 2 of 2');
    expect(() => rowOps.add(space, x, place(space, new Float32Array(4), 2))).toThrow('expected [2, 3]');
    space.activations.release(space.activations.bufferOf(x));
    expect(() => rowOps.add(space, x, x)).toThrow('after it was freed');
  });
});
