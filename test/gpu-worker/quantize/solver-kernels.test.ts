/** The solver's SIMD kernels against plain loops, on shapes that do not divide. */
import { afterAll, describe, expect, test } from 'vitest';
import type { Swept } from '../../../gpu-worker/quantize/kernels.ts';
import { ReferenceKernels } from '../../../gpu-worker/quantize/reference-kernels.ts';
import type { SolverOptions } from '../../../gpu-worker/quantize/solver-options.ts';
import { openWasmKernels } from '../../../gpu-worker/quantize/wasm-kernels.ts';
import { differenceOf, HESSIAN_TOKENS, numbers } from './solver-numbers.ts';

const reference = new ReferenceKernels();
const wasm = await openWasmKernels(2);
const lone = await openWasmKernels(1);
afterAll(async () => {
  await wasm.close();
  await lone.close();
});

async function hessianOf(kernels: typeof wasm | ReferenceKernels, columns: number): Promise<Float32Array> {
  const sum = kernels.hessian(columns);
  for (const [seed, tokens] of HESSIAN_TOKENS.entries()) await sum.add(numbers(tokens, columns, seed));
  return sum.finish(2 / 4);
}

const OPTIONS: SolverOptions = {
  bits: 4,
  groupSize: null,
  columnOrder: 'natural',
  groups: 'running',
  zeros: 'asymmetric',
  clipping: 'none',
  damping: 0.01,
};

describe.each([5, 8, 33, 64, 129, 172, 260])('%i columns', (columns) => {
  test('the Hessian, within f32 sums of 558 products', async () => {
    const [ours, theirs] = [await hessianOf(wasm, columns), await hessianOf(reference, columns)];
    const largest = theirs.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    ours.forEach((value, i) => {
      expect(Math.abs(value - theirs[i]!)).toBeLessThan(2e-6 * largest);
    });
  });

  test.each([
    ['one row, groups inside a block', 1, 3, OPTIONS],
    ['17 rows, groups across blocks', 17, 96, { ...OPTIONS, zeros: 'symmetric' }],
    ['15 rows, groups larger than a block', 15, 200, { ...OPTIONS, bits: 3 }],
    ['33 rows, clipped', 33, 64, { ...OPTIONS, clipping: 'mse', bits: 2 }],
  ] as const)('the sweep: %s', async (_, rows, groupSize, options) => {
    const weight = numbers(rows, columns, 99);
    const hessian = await hessianOf(reference, columns);
    const groups = { kind: 'running', groupSize } as const;
    const [ours, theirs] = [await wasm.factor(hessian, columns, 1), await reference.factor(hessian, columns, 1)];
    const [fast, plain] = [
      await wasm.sweep(weight, ours!, groups, options),
      await reference.sweep(weight, theirs!, groups, options),
    ];
    wasm.release(ours!);
    const error = (swept: Swept) => reference.energy(differenceOf(weight, columns, groupSize, swept), hessian, columns);
    expect(Math.abs((await error(fast)) / (await error(plain)) - 1)).toBeLessThan(0.02);
    // Equal costs may choose different clipping; without it only a tie that falls the other way in f32 moves what follows in its row.
    if (options.clipping === 'mse') return;
    const same = fast.levels.filter((level, i) => level === plain.levels[i]).length;
    expect(same / plain.levels.length).toBeGreaterThan(0.985);
    const close = fast.scales.filter((scale, i) => Math.abs(scale - plain.scales[i]!) < 1e-4 * plain.scales[i]!).length;
    expect(close / plain.scales.length).toBeGreaterThan(0.95);
  });

  test('the energy of a matrix', async () => {
    const matrix = numbers(19, columns, 7);
    const hessian = await hessianOf(reference, columns);
    const [ours, theirs] = [
      await wasm.energy(matrix, hessian, columns),
      await reference.energy(matrix, hessian, columns),
    ];
    expect(Math.abs(ours / theirs - 1)).toBeLessThan(1e-5);
  });
});

test('results do not depend on the number of threads, bit for bit', async () => {
  const [two, one] = [await hessianOf(wasm, 172), await hessianOf(lone, 172)];
  expect(two).toEqual(one);
  const weight = numbers(40, 172, 3);
  const swept = await Promise.all(
    [wasm, lone].map(async (kernels) => {
      const factor = await kernels.factor(two, 172, 0.5);
      return kernels.sweep(weight, factor!, { kind: 'running', groupSize: 64 }, OPTIONS);
    }),
  );
  expect(swept[0]).toEqual(swept[1]);
});
