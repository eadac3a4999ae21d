/** LinearEnds: what becomes of a product before it is written; kernels/linear_output.wgsl. */
import type { ActivationFunction } from '../../core/model/backend.ts';
import type { Defines } from './kernel-source.ts';
import { FUNCTION_CODES } from './row-ops.ts';
import type { GpuLinear } from './weights/gpu-linear.ts';

/** f(gate) to multiply the product with. */
export interface Gate {
  kind: 'gated';
  f: ActivationFunction;
  values: GPUBuffer;
}

export type End =
  | { kind: 'plain' }
  | Gate
  /** Joined gate and up. */
  | { kind: 'pair'; f: ActivationFunction }
  /** Joined weights, so many outputs. */
  | { kind: 'apart'; count: number };

export const PLAIN: End = { kind: 'plain' };
/** Of a share's sums. */
export const NO_END: Defines = { BIAS: false, GATED: false, APART: false, APART_3: false, PAIR: false };

export function endDefines(weight: GpuLinear, end: End): Defines {
  const defines = { ...NO_END, BIAS: weight.bias !== null };
  switch (end.kind) {
    case 'plain':
      return defines;
    case 'gated':
      return { ...defines, GATED: true, FUNCTION: FUNCTION_CODES[end.f] };
    case 'pair':
      return { ...defines, PAIR: true, FUNCTION: FUNCTION_CODES[end.f] };
    case 'apart':
      return { ...defines, APART: true, APART_3: end.count === 3 };
    default:
      return end satisfies never;
  }
}

/** Outputs, and what their end reads, in the order of the bindings. */
export function endBuffers({ bias }: GpuLinear, ys: readonly GPUBuffer[], end: End): GPUBuffer[] {
  return [...ys, ...(bias === null ? [] : [bias]), ...(end.kind === 'gated' ? [end.values] : [])];
}
