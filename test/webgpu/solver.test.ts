/** The solver on a GPU against plain loops in f64, on shapes that do not divide, and against the libraries that GPTQ checkpoints come from. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { finishAll } from '../../gpu-worker/quantize/kernels.ts';
import { ReferenceKernels } from '../../gpu-worker/quantize/reference-kernels.ts';
import type { SolverOptions } from '../../gpu-worker/quantize/solver-options.ts';
import { openWasmKernels } from '../../gpu-worker/quantize/wasm-kernels.ts';
import { WebGpuKernels } from '../../gpu-worker/quantize/webgpu-kernels.ts';
import { AUTOGPTQ_LAYERS, GPTQMODEL_LAYERS, solveGolden } from '../gpu-worker/quantize/golden-layers.ts';
import { differenceOf, HESSIAN_TOKENS, numbers } from '../gpu-worker/quantize/solver-numbers.ts';
import { sharedData } from '../shared-data.ts';
import { openGpu } from './gpu-under-test.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures/gptq/solver');
const reference = new ReferenceKernels();
let gpu: WebGpuKernels;
beforeAll(async () => {
  gpu = new WebGpuKernels(await openGpu(), await openWasmKernels(1));
});
afterAll(() => gpu.close());

const OPTIONS: SolverOptions = {
  bits: 4,
  groupSize: null,
  columnOrder: 'natural',
  groups: 'running',
  zeros: 'asymmetric',
  clipping: 'none',
  damping: 0.01,
};

async function hessianOf(kernels: WebGpuKernels | ReferenceKernels, columns: number): Promise<Float32Array> {
  const sum = kernels.hessian(columns);
  for (const [seed, tokens] of HESSIAN_TOKENS.entries()) await sum.add(numbers(tokens, columns, seed));
  const [hessian] = await finishAll([sum], HESSIAN_TOKENS.length);
  return hessian!;
}

describe.each([5, 33, 64, 129, 260])('%i columns', (columns) => {
  test('the Hessian, within f32 sums of 558 products', async () => {
    const [ours, theirs] = [await hessianOf(gpu, columns), await hessianOf(reference, columns)];
    const largest = theirs.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const worst = ours.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i]!)), 0);
    expect(worst).toBeLessThan(2e-6 * largest);
  });

  test('the energy of a matrix', async () => {
    const [matrix, hessian] = [numbers(19, columns, 7), await hessianOf(reference, columns)];
    const [ours, theirs] = [
      await gpu.energy(matrix, hessian, columns),
      await reference.energy(matrix, hessian, columns),
    ];
    expect(Math.abs(ours / theirs - 1)).toBeLessThan(1e-5);
  });

  test.each<[string, number, Partial<SolverOptions>]>([
    ['4 bits, groups of 32, one row', 1, {}],
    ['2 bits, symmetric, groups of 48, 33 rows', 33, { bits: 2, zeros: 'symmetric', groupSize: 48 }],
    ['3 bits, groups of 200, 17 rows', 17, { bits: 3, groupSize: 200 }],
    ['8 bits, groups of 32, 16 rows', 16, { bits: 8 }],
    ['4 bits, clipped, groups of 64, 40 rows', 40, { clipping: 'mse', groupSize: 64 }],
  ])('the sweep: %s', async (_, rows, more) => {
    const options = { ...OPTIONS, groupSize: 32, ...more };
    const groupSize = Math.min(options.groupSize, columns);
    const weight = numbers(rows, columns, 99);
    const hessian = await hessianOf(reference, columns);
    const groups = { kind: 'running', groupSize } as const;
    const [ours, theirs] = [await gpu.factor(hessian, columns, 1), await reference.factor(hessian, columns, 1)];
    const fast = await gpu.sweep(weight, ours!, groups, options);
    const plain = await reference.sweep(weight, theirs!, groups, options);
    gpu.release(ours!);
    const error = (swept: typeof fast) =>
      reference.energy(differenceOf(weight, columns, groupSize, swept), hessian, columns);
    expect(await error(fast)).toBeLessThanOrEqual((options.clipping === 'mse' ? 1.02 : 1.001) * (await error(plain)));
    // Equal costs may choose different clipping; without it only a tie that falls the other way in f32 moves what follows in its row.
    if (options.clipping === 'mse') return;
    const same = fast.levels.filter((level, i) => level === plain.levels[i]).length;
    expect(same / plain.levels.length).toBeGreaterThanOrEqual(0.985);
  });

  test('given groups, in any order of columns', async () => {
    const [rows, groupCount] = [21, 3];
    const weight = numbers(rows, columns, 5);
    const hessian = await hessianOf(reference, columns);
    const groups = {
      kind: 'given',
      groupOf: Int32Array.from({ length: columns }, (_, i) => (i * 7) % groupCount),
      scales: Float32Array.from({ length: groupCount * rows }, (_, i) => 0.2 + (i % 5) / 40),
      zeros: Uint8Array.from({ length: groupCount * rows }, (_, i) => 6 + (i % 4)),
    } as const;
    const [ours, theirs] = [await gpu.factor(hessian, columns, 1), await reference.factor(hessian, columns, 1)];
    const fast = await gpu.sweep(weight, ours!, groups, OPTIONS);
    const plain = await reference.sweep(weight, theirs!, groups, OPTIONS);
    gpu.release(ours!);
    const same = fast.levels.filter((level, i) => level === plain.levels[i]).length;
    expect(same / plain.levels.length).toBeGreaterThanOrEqual(0.985);
    expect([fast.scales, fast.zeros]).toEqual([groups.scales, groups.zeros]);
  });
});

test('a Hessian that is not positive definite is said to be', async () => {
  const broken = Float32Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 1 : i === 1 || i === 8 ? 1.05 : 0));
  expect(await gpu.factor(broken, 8, 0.01)).toBeNull();
});

test.each(GPTQMODEL_LAYERS)("gives GPTQModel's levels: %s", async (name) => {
  const { same, ourError, theirError } = await solveGolden(gpu, join(FIXTURES, `${name}.safetensors`));
  expect(same).toBeGreaterThanOrEqual(0.985);
  expect(ourError).toBeLessThanOrEqual(1.001 * theirError);
});

for (const name of AUTOGPTQ_LAYERS) {
  const path = sharedData(`gptq-golden/${name}.safetensors`);
  test.skipIf(path === null)(`gives AutoGPTQ's integers: ${name}`, async () => {
    const { same, ourError, theirError } = await solveGolden(gpu, path!);
    expect(same).toBeGreaterThanOrEqual(0.985);
    expect(ourError).toBeLessThanOrEqual(1.001 * theirError);
  });
}
