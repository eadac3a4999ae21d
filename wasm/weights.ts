/** Weights: matrices in the kernels' memory, and how each checkpoint layout becomes one. Tensor by tensor, straight into place. */

import { NibbleError } from '../core/errors.ts';
import type { DenseWeight, GptqWeight, Linear, LinearWeight } from '../core/model/backend.ts';
import type { KernelMemory } from './memory.ts';

export interface DenseLinear extends Linear {
  kind: 'dense';
  memory: KernelMemory;
  dtype: 'f32' | 'f16';
  /** [⌈out/4⌉·4, stride] f32 or f16 */
  weights: number;
  /** [⌈out/4⌉·4] f32, zeros without a bias */
  bias: number;
  /** ⌈in/4⌉·4 */
  stride: number;
}

export interface GptqLinear extends Linear {
  kind: 'gptq';
  memory: KernelMemory;
  /** [blocks, groups, 4, 8] u32; see assembly/linear_gptq.ts */
  q: number;
  /** [blocks, weightGroups, 8] f16 */
  scales: number;
  /** Symmetric: 8 throughout. Asymmetric: [blocks, weightGroups, 8] u8 at `address`. */
  zeros: { kind: 'symmetric' } | { kind: 'asymmetric'; address: number };
  /** [blocks·8] f32, zeros without a bias */
  bias: number;
  /** ⌈in/32⌉ */
  groups: number;
  /** Groups of 32 that share a scale. */
  groupsPerScale: number;
}

export type WasmLinear = DenseLinear | GptqLinear;

/** Copies and repacks `weight`. Throws `model_unsupported` for what the kernels cannot run, `file_invalid` for values they cannot hold. */
export function loadWeight(memory: KernelMemory, weight: LinearWeight, label: string): WasmLinear {
  if (weight.bias !== null) expectLength(label, 'bias', weight.bias.length, weight.outFeatures);
  switch (weight.kind) {
    case 'dense':
      return loadDense(memory, weight, label);
    case 'gptq':
      return loadGptq(memory, weight, label);
    default:
      return weight satisfies never;
  }
}

/** The weight as an embedding table. Throws `model_unsupported` when it is quantized. */
export function denseTable(weight: WasmLinear): DenseLinear {
  if (weight.kind === 'dense') return weight;
  throw new NibbleError({
    code: 'model_unsupported',
    file: `embedding table [${weight.outFeatures}, ${weight.inFeatures}]`,
    option: weight.kind,
    reason: 'not supported by the wasm backend yet',
  });
}

export function expectLength(label: string, what: string, length: number, expected: number): void {
  if (length !== expected)
    throw new NibbleError({
      code: 'internal',
      reason: `${label}: ${what} has length ${length}, its shape needs ${expected}`,
    });
}

function loadBias(memory: KernelMemory, bias: Float32Array | null, paddedLength: number, label: string): number {
  const address = memory.permanent(paddedLength * 4, label);
  if (bias !== null) memory.f32(address, bias.length).set(bias);
  return address;
}

function loadDense(memory: KernelMemory, weight: DenseWeight, label: string): DenseLinear {
  const { outFeatures, inFeatures, bytes } = weight;
  const sourceBytes = weight.dtype === 'f32' ? 4 : 2;
  expectLength(label, `${weight.dtype} bytes`, bytes.length, outFeatures * inFeatures * sourceBytes);
  const dtype = weight.dtype === 'f16' ? 'f16' : 'f32';
  const stride = Math.ceil(inFeatures / 4) * 4;
  const rows = Math.ceil(outFeatures / 4) * 4;
  const rowBytes = stride * (dtype === 'f16' ? 2 : 4);
  const weights = memory.permanent(rows * rowBytes, label);
  const bias = loadBias(memory, weight.bias, rows, label);
  const target = memory.u8(weights, rows * rowBytes);
  for (let row = 0; row < outFeatures; row++) {
    const source = bytes.subarray(row * inFeatures * sourceBytes, (row + 1) * inFeatures * sourceBytes);
    if (weight.dtype === 'bf16') {
      // A bf16 is the upper half of its f32.
      for (let k = 0, at = row * rowBytes + 2; k < source.length; k += 2, at += 4) {
        target[at] = source[k]!;
        target[at + 1] = source[k + 1]!;
      }
    } else target.set(source, row * rowBytes);
  }
  if (dtype === 'f16') expectFinite(label, memory.u16(weights, rows * stride));
  return {
    kind: 'dense',
    memory,
    outFeatures,
    inFeatures,
    bytes: rows * (rowBytes + 4),
    dtype,
    weights,
    bias,
    stride,
  };
}

/** The kernels widen f16 by shifting, which has no infinities. */
function expectFinite(label: string, halves: Uint16Array): void {
  const at = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
  if (at >= 0)
    throw new NibbleError({ code: 'file_invalid', file: label, tensor: null, rule: `f16 value ${at} is not finite` });
}

function loadGptq(memory: KernelMemory, weight: GptqWeight, label: string): GptqLinear {
  const { outFeatures, inFeatures, qweight, qzeros, scales, zeroOffset } = weight;
  expectSupported(weight, label);
  const groupSize = Math.min(weight.groupSize, inFeatures);
  const weightGroups = Math.ceil(inFeatures / groupSize);
  const zeroWords = Math.ceil(outFeatures / 8);
  expectLength(label, 'qweight', qweight.length, (inFeatures / 8) * outFeatures);
  expectLength(label, 'qzeros', qzeros.length, weightGroups * zeroWords);
  expectLength(label, 'scales', scales.length, weightGroups * outFeatures);
  expectFinite(label, scales);

  const blocks = Math.ceil(outFeatures / 8);
  const groups = Math.ceil(inFeatures / 32);
  const q = memory.permanent(blocks * groups * 128, label);
  packNibbles(qweight, memory.u32(q, blocks * groups * 32), outFeatures, groups);

  const scaleCount = blocks * weightGroups * 8;
  const scaleAddress = memory.permanent(scaleCount * 2, label);
  const packedScales = memory.u16(scaleAddress, scaleCount);
  let symmetric = true;
  const packedZeros = new Uint8Array(scaleCount);
  for (let group = 0; group < weightGroups; group++)
    for (let row = 0; row < outFeatures; row++) {
      const to = ((row >> 3) * weightGroups + group) * 8 + (row & 7);
      const stored = (qzeros[group * zeroWords + (row >> 3)]! >>> (4 * (row & 7))) & 15;
      const zero = (stored + zeroOffset) & 15;
      packedScales[to] = scales[group * outFeatures + row]!;
      packedZeros[to] = zero;
      symmetric &&= zero === 8;
    }
  const zeros: GptqLinear['zeros'] = symmetric
    ? { kind: 'symmetric' }
    : { kind: 'asymmetric', address: memory.permanent(scaleCount, label) };
  if (zeros.kind === 'asymmetric') memory.u8(zeros.address, scaleCount).set(packedZeros);
  return {
    kind: 'gptq',
    memory,
    outFeatures,
    inFeatures,
    bytes: blocks * groups * 128 + scaleCount * (symmetric ? 2 : 3) + blocks * 32,
    q,
    scales: scaleAddress,
    zeros,
    bias: loadBias(memory, weight.bias, blocks * 8, label),
    groups,
    groupsPerScale: Math.ceil(groupSize / 32),
  };
}

function expectSupported(weight: GptqWeight, label: string): void {
  const refuse = (option: string): never => {
    throw new NibbleError({
      code: 'model_unsupported',
      file: label,
      option,
      reason: 'not supported by the wasm backend yet',
    });
  };
  if (weight.bits !== 4) refuse(`bits=${weight.bits}`);
  if (weight.gIdx !== null) refuse('desc_act=true');
  if (weight.groupSize <= 0 || (weight.groupSize % 32 !== 0 && weight.groupSize < weight.inFeatures))
    refuse(`group_size=${weight.groupSize}`);
  if (weight.inFeatures % 8 !== 0) refuse(`in_features=${weight.inFeatures}`);
}

/** A qweight word holds channels 0..7 of one row from the lowest nibble up; the kernel wants channel c beside c + 4 in byte c. */
function packNibbles(qweight: Int32Array, packed: Uint32Array, outFeatures: number, groups: number): void {
  const octets = qweight.length / outFeatures;
  for (let octet = 0, from = 0; octet < octets; octet++) {
    const octetOffset = (octet >> 2) * 32 + (octet & 3) * 8;
    for (let row = 0; row < outFeatures; row++, from++) {
      const word = qweight[from]!;
      packed[(row >> 3) * groups * 32 + octetOffset + (row & 7)] =
        spreadNibbles(word & 0xffff) | (spreadNibbles(word >>> 16) << 4);
    }
  }
}

/** Four nibbles of 16 bits to the low nibbles of four bytes. */
function spreadNibbles(bits: number): number {
  const pairs = (bits | (bits << 8)) & 0x00ff00ff;
  return (pairs | (pairs << 4)) & 0x0f0f0f0f;
}
