/** The solver against the libraries that GPTQ checkpoints come from: the same integers, no larger error, on both kernel sets. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { unpackGptq } from '../../../core/formats/gptq-packing.ts';
import { f16ToF32Array, f32ToF16Array } from '../../../core/formats/half.ts';
import { openSafetensors } from '../../../core/formats/safetensors.ts';
import { dequantize } from '../../../core/model/reference-weights.ts';
import { finishAll, type SolverKernels } from '../../../gpu-worker/quantize/kernels.ts';
import { ReferenceKernels } from '../../../gpu-worker/quantize/reference-kernels.ts';
import { prepareHessian, solveLinear } from '../../../gpu-worker/quantize/solver.ts';
import type { SolverOptions } from '../../../gpu-worker/quantize/solver-options.ts';
import { openWasmKernels } from '../../../gpu-worker/quantize/wasm-kernels.ts';
import { sharedData } from '../../shared-data.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures/gptq/solver');
const OWN = ['w4-g32-sym', 'w3-gall-asym', 'w4-g32-asym-act', 'w2-g48-sym-static', 'w8-g32-sym'];
const AUTOGPTQ = ['w2-g64-sym', 'w3-g128-asym', 'w4-g128-sym', 'w4-g32-asym-act', 'w4-gall-sym', 'w8-g64-sym'];

const reference = new ReferenceKernels();
const KERNELS: Record<string, SolverKernels> = { reference, wasm: await openWasmKernels(2) };
afterAll(() => KERNELS.wasm!.close());

/** A layer as a library solved it: its levels and what they stand for. */
async function layerOf(path: string) {
  const file = await openSafetensors(new MemorySource(path, new Uint8Array(readFileSync(path))));
  const buffer = async (name: string) => (await file.read(name)).slice().buffer;
  const f32 = async (name: string) => new Float32Array(await buffer(name));
  const { metadata: given } = file;
  const [rows, columns] = file.tensors.get('weight')!.shape as [number, number];
  const groupSize = Number(given.group_size);
  const options: SolverOptions = {
    bits: Number(given.bits) as SolverOptions['bits'],
    groupSize: groupSize === -1 ? null : groupSize,
    columnOrder: given.desc_act === 'true' ? 'falling-activation' : 'natural',
    groups: given.static_groups === 'true' ? 'static' : 'running',
    zeros: given.sym === 'true' ? 'symmetric' : 'asymmetric',
    clipping: 'none',
    damping: Number(given.damp_percent),
  };
  const weight = f16ToF32Array(new Uint16Array(await buffer('weight')));
  const gIdx = new Int32Array(await buffer('g_idx'));
  const fakeQuant = await f32('fake_quant');
  const inputs = f16ToF32Array;
  const calibration =
    file.tensors.get('calibration')!.dtype === 'F16'
      ? inputs(new Uint16Array(await buffer('calibration')))
      : await f32('calibration');
  const sequences = file.tensors.get('calibration')!.shape[0]!;
  const hessian = file.tensors.has('hessian') ? await f32('hessian') : null;
  return { options, weight, rows, columns, gIdx, fakeQuant, calibration, sequences, hessian, file, buffer };
}

async function solve(kernels: SolverKernels, path: string) {
  const layer = await layerOf(path);
  const { options, weight, rows, columns, calibration, sequences } = layer;
  let hessian: Float32Array | undefined = layer.hessian ?? undefined;
  if (hessian === undefined) {
    const sum = kernels.hessian(columns);
    const length = calibration.length / sequences;
    for (let i = 0; i < sequences; i++) await sum.add(calibration.subarray(i * length, (i + 1) * length));
    [hessian] = await finishAll([sum], sequences);
  }
  const at = { file: path, label: 'weight' };
  const prepared = await prepareHessian(kernels, hessian!, columns, options, at);
  const solution = await solveLinear(kernels, { ...at, rows, columns, weight, bias: null }, prepared, options);
  kernels.release(prepared.factor);
  const theirs = await asStored(layer);
  const theirError = await reference.energy(
    weight.map((value, i) => value - theirs[i]!),
    hessian!,
    columns,
  );
  const ours = dequantize(solution.weight);
  const ourError = await reference.energy(
    weight.map((value, i) => value - ours[i]!),
    hessian!,
    columns,
  );
  return { layer, solution, ours, ourError, theirError };
}

/** What a checkpoint keeps of a library's result: its scales in f16. AutoGPTQ's files are stored that way already. */
async function asStored({ file, fakeQuant, gIdx, rows, columns, buffer }: Awaited<ReturnType<typeof layerOf>>) {
  if (file.tensors.has('qweight')) return fakeQuant;
  const scales = new Float32Array(await buffer('scales'));
  const groups = scales.length / rows;
  const halves = f16ToF32Array(f32ToF16Array(scales));
  return fakeQuant.map((value, i) => {
    const at = Math.floor(i / columns) * groups + gIdx[i % columns]!;
    return (value / scales[at]!) * halves[at]!;
  });
}

/** Values on the same level differ by f16's rounding of the scale alone. */
function sameLevels(ours: Float32Array, theirs: Float32Array, step: (i: number) => number): number {
  let same = 0;
  ours.forEach((value, i) => {
    if (Math.abs(value - theirs[i]!) < step(i) / 2) same++;
  });
  return same / ours.length;
}

describe.each(Object.keys(KERNELS))('%s', (name) => {
  test.each(OWN)("gives GPTQModel's levels: %s", async (layerName) => {
    const { layer, solution, ours, ourError, theirError } = await solve(
      KERNELS[name]!,
      join(FIXTURES, `${layerName}.safetensors`),
    );
    const { weight } = solution;
    const scales = f16ToF32Array(weight.scales);
    const stepOf = (i: number) => {
      const [row, column] = [Math.floor(i / layer.columns), i % layer.columns];
      const group = weight.gIdx === null ? Math.floor(column / weight.groupSize) : weight.gIdx[column]!;
      return scales[group * layer.rows + row]!;
    };
    expect(sameLevels(ours, layer.fakeQuant, stepOf)).toBeGreaterThanOrEqual(0.985);
    expect(ourError).toBeLessThanOrEqual(1.001 * theirError);
    const ourGroups = weight.gIdx ?? layer.gIdx.map((_, k) => Math.floor(k / weight.groupSize));
    expect([...ourGroups]).toEqual([...layer.gIdx]);
    expect(Math.abs(solution.squaredError - ourError)).toBeLessThan(1e-4 * ourError);
  });

  for (const layerName of AUTOGPTQ) {
    const path = sharedData(`gptq-golden/${layerName}.safetensors`);
    test.skipIf(path === null)(`gives AutoGPTQ's integers: ${layerName}`, async () => {
      const { layer, solution, ourError, theirError } = await solve(KERNELS[name]!, path!);
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
