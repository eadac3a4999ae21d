/** LinearKernels: what a linear's source depends on, for a weight and a plan. */
import type { LinearWeight } from '../../core/model/backend.ts';
import type { Defines } from './kernel-source.ts';
import type { GemvPlan, LinearPlan, MatrixPlan } from './linear-plan.ts';
import type { GpuLinear } from './weights/gpu-linear.ts';

const FACTOR_THREADS = 64;
/** Chunks that linear_gemm_matrix.wgsl dequantises between two barriers. */
const STAGE = 2;

/** Every name that a kind's sources ask for; a weight's own defines turn some on. */
export const VARIANTS: Readonly<Record<LinearWeight['kind'], Defines>> = {
  dense: { BNB4: false, THRESHOLD: false, DTYPE_F32: false, DTYPE_F16: false, DTYPE_BF16: false },
  gptq: { BNB4: false, THRESHOLD: false, BITS_2: false, BITS_3: false, BITS_4: false, BITS_8: false },
  bnb4: { BNB4: true, THRESHOLD: false },
  int8: { BNB4: false, THRESHOLD: true },
};

/** `ends`: what linear_output.wgsl asks for. */
export function productDefines(weight: GpuLinear, plan: LinearPlan, ends: Defines): Defines {
  const isJoined = weight.parts[0]?.params.end0 !== undefined;
  const common = { ...VARIANTS[weight.kind], ...weight.defines, ...ends, JOINED: isJoined, FACTORS: false };
  switch (plan.kind) {
    case 'gemv':
      return {
        ...common,
        MATRICES: false,
        TILED: false,
        THREADS: plan.threads,
        TOKENS: plan.tokens,
        ...piecesOf(weight, plan),
        SUBGROUPS: plan.subgroups !== 'none',
        JOIN: plan.subgroups === 'join',
        INTEGERS: weight.kind === 'int8',
        HALVES: plan.halves,
      };
    case 'gemm':
      return {
        ...common,
        MATRICES: false,
        TILED: true,
        HALVES: false,
        THREADS: 64,
        TILE_M: 8 * plan.threadTokens,
        THREAD_M: plan.threadTokens,
        THREAD_M_2: plan.threadTokens === 2,
        THREAD_M_4: plan.threadTokens === 4,
        THREAD_M_8: plan.threadTokens === 8,
      };
    case 'matrix':
      return { ...common, MATRICES: true, TILED: true, HALVES: false, ...fragmentsOf(plan) };
    default:
      return plan satisfies never;
  }
}

export function rowFactorDefines(weight: GpuLinear): Defines {
  const variant = { ...VARIANTS[weight.kind], ...weight.defines };
  return {
    ...variant,
    JOINED: false,
    FACTORS: true,
    MATRICES: false,
    TILED: true,
    HALVES: false,
    THREADS: FACTOR_THREADS,
  };
}

/** How many pieces of a thread's share there are, and how many of them are written out in the source. */
function piecesOf({ pieces }: GpuLinear, { tokens, halves }: GemvPlan): Defines {
  const count = halves ? pieces / 2 : pieces;
  return { PIECES: count, UNROLLED: tokens <= 2 ? count : Math.min(2, count) };
}

function fragmentsOf({ shape: { M, N, K, subgroupSize }, tileTokens, subgroupsAcross }: MatrixPlan): Defines {
  return {
    M,
    N,
    K,
    SUBGROUP: subgroupSize,
    THREADS: 4 * subgroupSize,
    STAGE,
    TILE_M: tileTokens,
    SUBGROUPS_N: subgroupsAcross,
    FRAGMENTS_M: (tileTokens * subgroupsAcross) / 4 / M,
    FRAGMENTS_N: 64 / subgroupsAcross / N,
  };
}
