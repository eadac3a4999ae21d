/** LinearPlan: which kernel a product of so many tokens runs, in what grid. */
import type { GpuFeatures, MatrixShape } from './device.ts';
import type { GpuLinear } from './weights/gpu-linear.ts';

export type LinearPlan = GemvPlan | GemmPlan | MatrixPlan;

export interface GemvPlan {
  kind: 'gemv';
  /** Threads of a workgroup. */
  threads: number;
  /** Threads that share four rows, a power of two. */
  team: number;
  /** Tokens of one pass over the weights. */
  tokens: 1 | 2 | 4 | 8;
  /** Sums by subgroup operations; join: a team is not just one subgroup. */
  subgroups: 'none' | 'alone' | 'join';
  /** Products in f16, summed by eights in f16 and then in f32. */
  halves: boolean;
}

export interface GemmPlan {
  kind: 'gemm';
  /** Tokens that one thread sums: a tile has eight times as many. */
  threadTokens: 2 | 4 | 8;
  /** Shares of the channels, each a grid of its own, and the chunks in one. */
  shares: number;
  shareChunks: number;
}

/** linear_gemm_matrix.wgsl's: four subgroups, a tile of tokens × 64 rows. */
export interface MatrixPlan {
  kind: 'matrix';
  shape: MatrixShape;
  tileTokens: 16 | 32 | 64 | 128;
  /** Subgroups beside each other along the rows; the others follow along the tokens. */
  subgroupsAcross: 2 | 4;
  shares: number;
  shareChunks: number;
}

/** What a plan may rely on. */
export interface LinearFeatures {
  subgroups: GpuFeatures['subgroups'];
  f16: boolean;
  matrices: MatrixShape | null;
}

const GEMV_THREADS = 128;
/** Most tokens for which weights are read without tiles. */
const GEMV_TOKENS = 8;
/** Threads that keep memory busy on the largest device thought of: 132 multiprocessors of an H100 with 500 each. */
const BUSY_THREADS = 65_536;
/** Workgroups of 64 that keep it busy likewise. */
const BUSY_TILES = 512;
/** A share of fewer chunks costs more in its partial sums than it gains. */
const LEAST_SHARE_CHUNKS = 8;

/** Deterministic: the order of summation does not depend on the tokens. */
export function planLinear(
  weight: GpuLinear,
  tokens: number,
  features: LinearFeatures,
  deterministic: boolean,
): LinearPlan {
  if (tokens <= GEMV_TOKENS || deterministic) return planGemv(weight, tokens, features);
  const hasFactors = weight.parts.every(({ rowFactors }) => rowFactors !== null);
  return features.matrices !== null && hasFactors
    ? planMatrix(weight, tokens, features.matrices)
    : planGemm(weight, tokens);
}

function planGemv(weight: GpuLinear, tokens: number, { subgroups, f16 }: LinearFeatures): GemvPlan {
  const usable = subgroups !== null && subgroups.maxSize <= GEMV_THREADS ? subgroups : null;
  const least = usable?.maxSize ?? Math.min(32, GEMV_THREADS);
  const quads = Math.ceil(weight.outFeatures / 4);
  const units = (weight.chunks * 8) / weight.pieces;
  // Narrow weights: several threads a quad, as long as each has a share of the channels.
  const team = Math.min(
    GEMV_THREADS,
    Math.max(least, Math.min(powerOfTwo(BUSY_THREADS / quads), powerOfTwo(units / 2))),
  );
  const isAlone = usable !== null && usable.minSize === usable.maxSize && usable.maxSize === team;
  return {
    kind: 'gemv',
    threads: GEMV_THREADS,
    team,
    tokens: tokens <= 1 ? 1 : tokens <= 2 ? 2 : tokens <= 4 ? 4 : 8,
    subgroups: usable === null ? 'none' : isAlone ? 'alone' : 'join',
    halves: f16 && weight.halves !== null,
  };
}

function planGemm(weight: GpuLinear, tokens: number): GemmPlan {
  const threadTokens = tokens <= 16 ? 2 : tokens <= 32 ? 4 : 8;
  return { kind: 'gemm', threadTokens, ...sharesOf(weight, tokens, 8 * threadTokens) };
}

function planMatrix(weight: GpuLinear, tokens: number, shape: MatrixShape): MatrixPlan {
  const least = tokens <= 16 ? 16 : tokens <= 32 ? 32 : tokens <= 64 ? 64 : 128;
  // Small matrices make many products of a tile, each with registers of its own.
  const tileTokens = least === 16 && shape.M > 16 ? 32 : least === 128 && shape.M * shape.N < 256 ? 64 : least;
  const subgroupsAcross = tileTokens <= 32 ? 4 : 2;
  return { kind: 'matrix', shape, tileTokens, subgroupsAcross, ...sharesOf(weight, tokens, tileTokens) };
}

/** How the channels are shared so that tiles of 64 rows fill the device. */
function sharesOf({ outFeatures, chunks }: GpuLinear, tokens: number, tileTokens: number) {
  const tiles = Math.ceil(outFeatures / 64) * Math.ceil(tokens / tileTokens);
  const wanted = Math.min(Math.floor(BUSY_TILES / tiles), Math.floor(chunks / LEAST_SHARE_CHUNKS));
  const shareChunks = Math.ceil(chunks / Math.max(1, wanted));
  return { shares: Math.ceil(chunks / shareChunks), shareChunks };
}

/** The largest power of two up to `value`, at least 1. */
function powerOfTwo(value: number): number {
  return 2 ** Math.max(0, Math.floor(Math.log2(value)));
}
