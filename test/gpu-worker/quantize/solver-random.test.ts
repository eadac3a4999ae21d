/** The solver on random layers: never more than 1.001 times the error of what AutoGPTQ would store, scales in f16 and all. */
import { afterAll, expect, test } from 'vitest';
import { dequantize } from '../../../core/model/reference-weights.ts';
import type { SolverKernels } from '../../../gpu-worker/quantize/kernels.ts';
import { ReferenceKernels } from '../../../gpu-worker/quantize/reference-kernels.ts';
import { prepareHessian, solveLinear } from '../../../gpu-worker/quantize/solver.ts';
import type { SolverOptions } from '../../../gpu-worker/quantize/solver-options.ts';
import { openWasmKernels } from '../../../gpu-worker/quantize/wasm-kernels.ts';
import { gaussians } from '../../wasm/inputs.ts';
import { autoGptq } from './autogptq.ts';

const LAYERS = 36;
const reference = new ReferenceKernels();
const wasm = await openWasmKernels(2);
afterAll(() => wasm.close());

/** Layer `seed`: correlated inputs, some channels ten times as strong, weights whose rows differ in size. */
function layerOf(seed: number) {
  const columns = [64, 128, 192, 256][seed % 4]!;
  const rows = [64, 96, 128][seed % 3]!;
  const tokens = [64, 300, 700][Math.floor(seed / 4) % 3]!;
  const options: SolverOptions & { groupSize: number } = {
    bits: ([2, 3, 4, 8] as const)[Math.floor(seed / 3) % 4]!,
    groupSize: [32, 64, 128][Math.floor(seed / 2) % 3]!,
    columnOrder: 'natural',
    groups: 'running',
    zeros: seed % 2 === 0 ? 'symmetric' : 'asymmetric',
    clipping: 'none',
    damping: 0.01,
  };
  const sizes = gaussians(rows, seed + 1000);
  const weight = gaussians(rows * columns, seed).map(
    (value, i) => value * (0.02 + 0.1 * Math.abs(sizes[Math.floor(i / columns)]!)),
  );
  const [own, common] = [gaussians(tokens * columns, seed + 2000), gaussians(tokens, seed + 3000)];
  const x = own.map((value, i) => (value + common[Math.floor(i / columns)]!) * ((i % columns) % 13 === 0 ? 10 : 1));
  return { columns, rows, options, weight, x };
}

async function solved(
  kernels: SolverKernels,
  { columns, rows, options, weight }: ReturnType<typeof layerOf>,
  hessian: Float32Array,
) {
  const at = { file: 'random', label: 'weight' };
  const prepared = await prepareHessian(kernels, hessian, columns, options, at);
  const solution = await solveLinear(kernels, { ...at, rows, columns, weight, bias: null }, prepared, options);
  kernels.release(prepared.factor);
  return dequantize(solution.weight);
}

test.each([
  ['reference', reference],
  ['wasm', wasm],
] as const)('%s', async (_, kernels) => {
  const ratios: number[] = [];
  for (let seed = 0; seed < LAYERS; seed++) {
    const layer = layerOf(seed);
    const { columns, options, weight, x } = layer;
    const sum = reference.hessian(columns);
    await sum.add(x);
    const hessian = await sum.finish(2);
    const error = (values: Float32Array) =>
      reference.energy(
        weight.map((value, i) => value - values[i]!),
        hessian,
        columns,
      );
    ratios.push(
      (await error(await solved(kernels, layer, hessian))) / (await error(autoGptq(weight, hessian, columns, options))),
    );
  }
  expect(Math.max(...ratios)).toBeLessThanOrEqual(1.001);
});
