/** LinearPlan: which kernel a product of so many tokens runs, in what grid. */
import type { GpuFeatures } from './device.ts';
import type { GpuLinear } from './weights/gpu-linear.ts';

export type LinearPlan = GemvPlan | GemmPlan;

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
  features: Pick<GpuFeatures, 'subgroups' | 'f16'>,
  deterministic: boolean,
): LinearPlan {
  return tokens <= GEMV_TOKENS || deterministic ? planGemv(weight, tokens, features) : planGemm(weight, tokens);
}

function planGemv(
  weight: GpuLinear,
  tokens: number,
  { subgroups, f16 }: Pick<GpuFeatures, 'subgroups' | 'f16'>,
): GemvPlan {
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
    halves: f16 && weight.kind === 'gptq' && weight.defines.BITS === 4,
  };
}

function planGemm(weight: GpuLinear, tokens: number): GemmPlan {
  const threadTokens = tokens <= 16 ? 2 : tokens <= 32 ? 4 : 8;
  const tiles = Math.ceil(weight.outFeatures / 64) * Math.ceil(tokens / (8 * threadTokens));
  const wanted = Math.min(Math.floor(BUSY_TILES / tiles), Math.floor(weight.chunks / LEAST_SHARE_CHUNKS));
  const shareChunks = Math.ceil(weight.chunks / Math.max(1, wanted));
  return { kind: 'gemm', threadTokens, shares: Math.ceil(weight.chunks / shareChunks), shareChunks };
}

/** The largest power of two up to `value`, at least 1. */
function powerOfTwo(value: number): number {
  return 2 ** Math.max(0, Math.floor(Math.log2(value)));
}
