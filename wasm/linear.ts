/** Linear: one matrix product on the kernels, its scratch taken and given back. */
import { type Kernels, type KernelVariant, quantizedBytes } from './kernels.ts';
import type { KernelMemory } from './memory.ts';
import type { DenseLinear, GptqLinear, WasmLinear } from './weights.ts';

interface KernelSet {
  kernels: Kernels;
  memory: KernelMemory;
  variant: KernelVariant;
}

/** y [tokens, out] f32 = x [tokens, in] f32 · Wᵀ + bias; x and y are addresses. */
export function runLinear(set: KernelSet, weight: WasmLinear, x: number, y: number, tokens: number): void {
  const mark = set.memory.mark;
  switch (weight.kind) {
    case 'dense':
      dense(set, weight, x, y, tokens);
      break;
    case 'gptq':
      gptq(set, weight, x, y, tokens);
      break;
    default:
      weight satisfies never;
  }
  set.memory.release(mark);
}

function dense({ kernels, memory }: KernelSet, weight: DenseLinear, x: number, y: number, tokens: number): void {
  const { inFeatures, outFeatures, stride, weights, bias } = weight;
  let padded = x;
  if (stride !== inFeatures) {
    padded = memory.step(tokens * stride * 4);
    kernels.pad_rows(x, padded, tokens, inFeatures, stride);
  }
  const kernel = weight.dtype === 'f16' ? kernels.linear_dense_f16 : kernels.linear_dense_f32;
  kernel(weights, bias, padded, y, tokens, outFeatures, stride);
}

function gptq({ kernels, memory, variant }: KernelSet, weight: GptqLinear, x: number, y: number, tokens: number): void {
  const { inFeatures, outFeatures, groups, groupsPerScale, q, scales, zeros, bias } = weight;
  const quantized = memory.step(tokens * groups * 32 * quantizedBytes(variant));
  const xScale = memory.step(tokens * groups * 4);
  const minusSum = memory.step(tokens * groups * 4);
  const padded = memory.step(32 * 4);
  kernels.quantize_rows(x, quantized, xScale, minusSum, padded, tokens, inFeatures);
  const rest = [bias, quantized, xScale, minusSum, y, tokens, outFeatures, groups, groupsPerScale] as const;
  if (zeros.kind === 'symmetric') kernels.linear_gptq_sym(q, scales, ...rest);
  else kernels.linear_gptq_asym(q, scales, zeros.address, ...rest);
}
