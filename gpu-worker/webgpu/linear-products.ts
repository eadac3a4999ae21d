/** LinearProducts: the dispatches of one product by its plan. */
import type { Activation } from '../../core/model/backend.ts';
import type { Kernel } from './kernels.ts';
import { type End, endBuffers, endDefines, NO_END } from './linear-ends.ts';
import type { InputForm, LinearInputs } from './linear-inputs.ts';
import { productDefines, rowFactorDefines } from './linear-kernels.ts';
import type { GemmPlan, GemvPlan, LinearPlan, MatrixPlan } from './linear-plan.ts';
import { foldGroups, type Space } from './row-ops.ts';
import type { GpuLinear, WeightPart } from './weights/gpu-linear.ts';
import type { Loading } from './weights/loading.ts';

const SUM_THREADS = 256;

/** Adds the dispatches of x · weightᵀ by a plan, its end written to `ys`: one, or one a joined weight. */
export function multiply(
  space: Space,
  x: Activation,
  inputs: LinearInputs,
  weight: GpuLinear,
  plan: LinearPlan,
  ys: readonly GPUBuffer[],
  end: End,
): void {
  const { activations } = space;
  const source = inputs.of(weight, inputForm(weight, plan));
  const kernel = productKernel(space, weight, plan, end);
  if (plan.kind !== 'gemv' && plan.shares > 1) {
    const partial = activations.scratch(4 * plan.shares * x.rows * weight.outFeatures);
    for (const part of weight.parts) multiplyTiles(space, kernel, weight, part, plan, x.rows, [source, [partial]]);
    addShares(space, weight, plan, x.rows, partial, ys, end);
    activations.release(partial);
    return;
  }
  const ends = endBuffers(weight, ys, end);
  for (const part of weight.parts)
    if (plan.kind === 'gemv') multiplyRows(space, kernel, weight, part, plan, x.rows, end, [source, ends]);
    else multiplyTiles(space, kernel, weight, part, plan, x.rows, [source, ends]);
}

export function productKernel(space: Space, weight: GpuLinear, plan: LinearPlan, end: End): Kernel {
  const isPartial = plan.kind !== 'gemv' && plan.shares > 1;
  const defines = productDefines(weight, plan, isPartial ? NO_END : endDefines(weight, end));
  return space.gpu.kernels.get(`linear_${weight.kind}`, defines);
}

function multiplyRows(
  space: Space,
  kernel: Kernel,
  { chunks, outFeatures }: GpuLinear,
  { first, rows, buffers, params }: WeightPart,
  { threads, team, tokens }: GemvPlan,
  count: number,
  end: End,
  [source, ends]: [GPUBuffer[], GPUBuffer[]],
): void {
  space.gpu.dispatch(
    kernel,
    { tokens: count, rows, first, cols: outFeatures, chunks, team, splitChunks: 0, ...params },
    [...source, ...buffers, ...ends],
    Math.ceil(Math.ceil(rows / (end.kind === 'pair' ? 8 : 4)) / (threads / team)),
    Math.ceil(count / tokens),
  );
}

function multiplyTiles(
  space: Space,
  kernel: Kernel,
  { chunks, outFeatures }: GpuLinear,
  { first, rows, buffers, rowFactors, params }: WeightPart,
  plan: GemmPlan | MatrixPlan,
  count: number,
  [source, ends]: [GPUBuffer[], GPUBuffer[]],
): void {
  const tileTokens = plan.kind === 'gemm' ? 8 * plan.threadTokens : plan.tileTokens;
  const factors = plan.kind === 'gemm' ? [] : [rowFactors!];
  space.gpu.dispatch(
    kernel,
    { tokens: count, rows, first, cols: outFeatures, chunks, team: 0, splitChunks: plan.shareChunks, ...params },
    [...source, ...factors, ...buffers, ...ends],
    Math.ceil(rows / 64),
    Math.ceil(count / tileTokens),
    plan.shares,
  );
}

/** For a plan with several shares. */
export function sumKernel(space: Space, weight: GpuLinear, end: End): Kernel {
  const defines = { THREADS: SUM_THREADS, ...endDefines(weight, end) };
  return space.gpu.kernels.get('sum_shares', defines);
}

function addShares(
  space: Space,
  weight: GpuLinear,
  { shares }: GemmPlan | MatrixPlan,
  tokens: number,
  partial: GPUBuffer,
  ys: readonly GPUBuffer[],
  end: End,
): void {
  const cols = weight.outFeatures;
  const count = tokens * cols;
  const { end0, end1 } = weight.parts[0]!.params;
  const apart = end.kind === 'apart' ? { end0: end0!, end1: end1! } : {};
  space.gpu.dispatch(
    sumKernel(space, weight, end),
    { count, shares, tokens, rows: cols, first: 0, cols, ...apart },
    [partial, ...endBuffers(weight, ys, end)],
    ...foldGroups(Math.ceil(count / SUM_THREADS)),
  );
}

/** What the kernel of a plan takes for x. */
function inputForm({ halves }: GpuLinear, plan: LinearPlan): InputForm {
  if (plan.kind === 'matrix') return { kind: 'halves', order: 0, largest: 14, tileTokens: plan.tileTokens };
  if (plan.kind === 'gemm' || !plan.halves) return { kind: 'floats' };
  return { kind: 'halves', ...halves!, tileTokens: 1 };
}

/** Buffers for linear_row_factors.wgsl's result, filled. Not int8's: its products are of integers. */
export async function addRowFactors(loading: Loading, linear: GpuLinear): Promise<void> {
  if (linear.kind === 'int8') return;
  const { gpu } = loading;
  for (const part of linear.parts) part.rowFactors = await loading.permanent(32 * Math.ceil(part.rows / 4));
  const { outFeatures: cols, chunks } = linear;
  const kernel = gpu.kernels.get(`linear_${linear.kind}`, rowFactorDefines(linear));
  for (const { rows, first, buffers, rowFactors, params } of linear.parts) {
    const all = { tokens: 0, rows, first, cols, chunks, team: 0, splitChunks: 0, ...params };
    gpu.dispatch(kernel, all, [...buffers, rowFactors!], ...foldGroups(Math.ceil(rows / 4)));
  }
}
