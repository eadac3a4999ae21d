/** Linear: one matrix product on the kernels, its scratch taken and given back. */
import type { ChunkedProduct, Kernels, KernelVariant } from './kernels.ts';
import type { KernelMemory } from './memory.ts';
import type { Bnb4Linear } from './weights/bnb4.ts';
import type { PlacedPlan } from './weights/chunk-plan.ts';
import type { DenseLinear } from './weights/dense.ts';
import type { GptqLinear } from './weights/gptq.ts';
import type { Int8Linear } from './weights/int8.ts';
import type { WasmLinear } from './weights.ts';

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
    case 'bnb4':
      bnb4(set, weight, x, y, tokens);
      break;
    case 'int8':
      int8(set, weight, x, y, tokens);
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

function gptq(set: KernelSet, weight: GptqLinear, x: number, y: number, tokens: number): void {
  const { inFeatures, outFeatures, plan, bits, q, scales, zeros, bias } = weight;
  const grid: ActivationGrid = bits === 8 ? { width: 'wide', levels: WIDE_LEVELS } : narrowest(set);
  const product = chunked(set, plan, grid, { x, y, tokens, inFeatures, outFeatures, bias });
  if (zeros.kind === 'symmetric') set.kernels[`linear_gptq${bits}_sym`](q, scales, ...product);
  else set.kernels[`linear_gptq${bits}_asym`](q, zeros.address, scales, ...product);
}

function bnb4(set: KernelSet, weight: Bnb4Linear, x: number, y: number, tokens: number): void {
  const { inFeatures, outFeatures, layout, bias } = weight;
  if (layout.kind === 'blocks') {
    const { codes, table, absmax, blockSize } = layout;
    set.kernels.linear_bnb4_blocks(codes, table, absmax, bias, x, y, tokens, outFeatures, inFeatures, blockSize);
    return;
  }
  const { plan, q, tables, scales } = layout;
  const product = chunked(set, plan, narrowest(set), { x, y, tokens, inFeatures, outFeatures, bias });
  set.kernels.linear_bnb4_chunks(q, tables, scales, ...product);
}

/** How activations are rounded: octets as assembly/dot.ts takes them, narrow i8 or wide i16, and integers up to ±levels in them. */
interface ActivationGrid {
  width: 'narrow' | 'wide';
  levels: number;
}

/** The most whose sum over a chunk of 32 fits 16 bits. */
const WIDE_LEVELS = 1023;

/** The plain build has only wide octets; the same levels keep its bits those of the relaxed one. */
function narrowest({ variant }: KernelSet): ActivationGrid {
  return { width: variant === 'relaxed' ? 'narrow' : 'wide', levels: 127 };
}

/** Quantizes the activations by the plan, and gives what every chunked kernel takes after its weights: see ChunkedProduct. */
function chunked(
  { kernels, memory }: KernelSet,
  { groups, octets, chunks, groupOctets, channels }: PlacedPlan,
  { width, levels }: ActivationGrid,
  product: { x: number; y: number; tokens: number; inFeatures: number; outFeatures: number; bias: number },
): ChunkedProduct {
  const { x, y, tokens, inFeatures, outFeatures, bias } = product;
  const isWide = width === 'wide';
  const x8 = memory.step(tokens * octets * (isWide ? 16 : 8));
  const xScale = memory.step(tokens * chunks * 4);
  const minusSum = memory.step(tokens * chunks * 4);
  const gathered = channels === null ? 0 : memory.step(octets * 32);
  kernels.quantize_rows(
    x,
    channels ?? 0,
    groupOctets,
    x8,
    xScale,
    minusSum,
    gathered,
    tokens,
    inFeatures,
    octets,
    groups,
    levels,
    isWide,
  );
  return [bias, groupOctets, x8, xScale, minusSum, y, tokens, outFeatures, groups, octets, chunks];
}

function int8({ kernels, memory }: KernelSet, weight: Int8Linear, x: number, y: number, tokens: number): void {
  const { inFeatures, outFeatures, octets, q, scales, bias, threshold } = weight;
  const x8 = memory.step(tokens * octets * 16);
  const xScale = memory.step(tokens * 4);
  const minusSum = memory.step(tokens * 4);
  const outliers = memory.step(tokens * inFeatures * 4);
  const outlierCount = memory.step(tokens * 4);
  const kept = memory.step(octets * 32);
  kernels.quantize_tokens(x, x8, xScale, minusSum, outliers, outlierCount, kept, tokens, inFeatures, octets, threshold);
  kernels.linear_int8(
    q,
    scales,
    bias,
    x,
    x8,
    xScale,
    minusSum,
    outliers,
    outlierCount,
    y,
    tokens,
    outFeatures,
    inFeatures,
    octets,
  );
}
