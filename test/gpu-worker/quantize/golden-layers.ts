/** GoldenLayers: linears that GPTQModel (fixtures of our own) and AutoGPTQ (shared data) solved, solved again by a kernel set. */
import { readFileSync } from 'node:fs';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { f16ToF32Array, f32ToF16Array } from '../../../core/formats/half.ts';
import { openSafetensors } from '../../../core/formats/safetensors.ts';
import { dequantize } from '../../../core/model/reference-weights.ts';
import { finishAll, type SolverKernels } from '../../../gpu-worker/quantize/kernels.ts';
import { ReferenceKernels } from '../../../gpu-worker/quantize/reference-kernels.ts';
import { prepareHessian, solveLinear } from '../../../gpu-worker/quantize/solver.ts';
import type { SolverOptions } from '../../../gpu-worker/quantize/solver-options.ts';

/** In test/fixtures/gptq/solver. */
export const GPTQMODEL_LAYERS = ['w4-g32-sym', 'w3-gall-asym', 'w4-g32-asym-act', 'w2-g48-sym-static', 'w8-g32-sym'];
/** In shared data, gptq-golden. */
export const AUTOGPTQ_LAYERS = [
  'w2-g64-sym',
  'w3-g128-asym',
  'w4-g128-sym',
  'w4-g32-asym-act',
  'w4-gall-sym',
  'w8-g64-sym',
];

const reference = new ReferenceKernels();

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

/** Solves a golden layer by `kernels`: both errors by the f64 reference, and the share of weights on the library's level. */
export async function solveGolden(kernels: SolverKernels, path: string) {
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
  const scales = f16ToF32Array(solution.weight.scales);
  const same = sameLevels(ours, layer.fakeQuant, (i) => {
    const column = i % columns;
    const { gIdx, groupSize } = solution.weight;
    const group = gIdx === null ? Math.floor(column / groupSize) : gIdx[column]!;
    return scales[group * rows + Math.floor(i / columns)]!;
  });
  return { layer, solution, same, ourError, theirError };
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
