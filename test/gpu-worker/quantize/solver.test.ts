/** The solver against the libraries that GPTQ checkpoints come from: the same integers, no larger error, on both kernel sets. */
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { unpackGptq } from '../../../core/formats/gptq-packing.ts';
import type { SolverKernels } from '../../../gpu-worker/quantize/kernels.ts';
import { ReferenceKernels } from '../../../gpu-worker/quantize/reference-kernels.ts';
import { prepareHessian, solveLinear } from '../../../gpu-worker/quantize/solver.ts';
import type { SolverOptions } from '../../../gpu-worker/quantize/solver-options.ts';
import { openWasmKernels } from '../../../gpu-worker/quantize/wasm-kernels.ts';
import { sharedData } from '../../shared-data.ts';
import { AUTOGPTQ_LAYERS, GPTQMODEL_LAYERS, solveGolden } from './golden-layers.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures/gptq/solver');
const reference = new ReferenceKernels();
const KERNELS: Record<string, SolverKernels> = { reference, wasm: await openWasmKernels(2) };
afterAll(() => KERNELS.wasm!.close());

describe.each(Object.keys(KERNELS))('%s', (name) => {
  test.each(GPTQMODEL_LAYERS)("gives GPTQModel's levels: %s", async (layerName) => {
    const { layer, solution, same, ourError, theirError } = await solveGolden(
      KERNELS[name]!,
      join(FIXTURES, `${layerName}.safetensors`),
    );
    const { weight } = solution;
    expect(same).toBeGreaterThanOrEqual(0.985);
    expect(ourError).toBeLessThanOrEqual(1.001 * theirError);
    const ourGroups = weight.gIdx ?? layer.gIdx.map((_, k) => Math.floor(k / weight.groupSize));
    expect([...ourGroups]).toEqual([...layer.gIdx]);
    expect(Math.abs(solution.squaredError - ourError)).toBeLessThan(1e-4 * ourError);
  });

  for (const layerName of AUTOGPTQ_LAYERS) {
    const path = sharedData(`gptq-golden/${layerName}.safetensors`);
    test.skipIf(path === null)(`gives AutoGPTQ's integers: ${layerName}`, async () => {
      const { layer, solution, ourError, theirError } = await solveGolden(KERNELS[name]!, path!);
      const qweight = new Int32Array(await layer.buffer('qweight'));
      const qzeros = new Int32Array(await layer.buffer('qzeros'));
      const theirs = unpackGptq({ ...solution.weight, qweight, qzeros });
      const ours = unpackGptq(solution.weight);
      const same = ours.quantized.filter((level, i) => level === theirs.quantized[i]).length;
      expect(same / ours.quantized.length).toBeGreaterThanOrEqual(0.985);
      expect(ours.zeros).toEqual(theirs.zeros);
      expect(ourError).toBeLessThanOrEqual(1.001 * theirError);
      const ourGroups = solution.weight.gIdx ?? layer.gIdx.map((_, k) => Math.floor(k / solution.weight.groupSize));
      expect([...ourGroups]).toEqual([...layer.gIdx]);
    });
  }
});

describe('bad input', () => {
  const options: SolverOptions = {
    bits: 4,
    groupSize: null,
    columnOrder: 'natural',
    groups: 'running',
    zeros: 'symmetric',
    clipping: 'none',
    damping: 0.01,
  };
  const at = { file: 'model', label: 'layers.0.q_proj' };
  const identity = (size: number) =>
    Float32Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0));

  test('damping grows until the Hessian can be factored, and the report says how far', async () => {
    // Correlations beyond 1: no Hessian has them, but a sum in f32 of nearly equal channels can.
    const broken = identity(8).map((value, i) => (i === 1 || i === 8 ? 1.05 : value));
    for (const kernels of Object.values(KERNELS)) {
      const prepared = await prepareHessian(kernels, broken, 8, options, at);
      expect(prepared.damping).toBeCloseTo(0.08, 10);
      kernels.release(prepared.factor);
    }
  });

  test('a Hessian that no damping mends, and inputs that are not finite, are named', async () => {
    const hopeless = identity(8).map((value, i) => (i === 1 || i === 8 ? 9 : value));
    await expect(prepareHessian(reference, hopeless, 8, options, at)).rejects.toThrow(
      /layers\.0\.q_proj.*cannot be factored, even at damping 1/,
    );
    const infinite = identity(8).map((value, i) => (i === 27 ? Number.POSITIVE_INFINITY : value));
    await expect(prepareHessian(reference, infinite, 8, options, at)).rejects.toThrow(
      /layers\.0\.q_proj.*input channel 3 is not finite/,
    );
  });

  test('a weight that is not finite, and a scale beyond f16, are named', async () => {
    const prepared = await prepareHessian(reference, identity(8), 8, options, at);
    const problem = { ...at, rows: 8, columns: 8, bias: null };
    const weight = new Float32Array(64).fill(0.5);
    weight[9] = Number.NaN;
    await expect(solveLinear(reference, { ...problem, weight }, prepared, options)).rejects.toThrow(
      /layers\.0\.q_proj.*holds NaN at 9/,
    );
    weight[9] = 1e7;
    await expect(solveLinear(reference, { ...problem, weight }, prepared, options)).rejects.toThrow(/beyond f16/);
  });
});
