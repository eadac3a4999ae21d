/** Sampler: from one row of logits to a token and its log probability. */
import { NibbleError } from '../errors.ts';
import { MAX_CANDIDATES } from '../model/backend.ts';
import type { SamplingDefaults } from '../model/config.ts';
import { likeliest, logTotal } from '../model/top-logits.ts';
import type { Sampling as JobSampling } from '../protocol.ts';
import { uniform } from './random.ts';

/** How to draw, with nothing left open. */
export interface Sampling extends SamplingDefaults {
  seed: number;
}

/** What the job leaves to the model is taken from the model's defaults. */
export function resolveSampling({ temperature, topK, topP, seed }: JobSampling, model: SamplingDefaults): Sampling {
  return { temperature: temperature ?? model.temperature, topK: topK ?? model.topK, topP: topP ?? model.topP, seed };
}

export interface Sampled {
  id: number;
  /** Natural log probability of `id` under the model's own distribution: softmax of the logits, before temperature and cuts. */
  logprob: number;
  /** The `topLogprobs` likeliest, likeliest first. */
  top: { id: number; logprob: number }[];
}

/** The likeliest tokens of one row, and what the whole row sums to. */
export interface Candidates {
  /** Likeliest first, lower id first among equals. */
  ids: ArrayLike<number>;
  logits: ArrayLike<number>;
  /** log Σ exp(logit) over the whole row */
  logTotal: number;
  /** log Σ exp(logit / temperature) over the whole row */
  scaledLogTotal: number;
  /** `some`: the row has more tokens than these. */
  extent: 'all' | 'some';
}

/** How many of the likeliest decide a draw in nearly every case. */
export function candidatesFor({ temperature, topK }: Sampling, topLogprobs: number): number {
  if (temperature === 0) return Math.max(1, topLogprobs);
  const drawn = topK > 0 ? Math.min(topK, MAX_CANDIDATES) : MAX_CANDIDATES;
  return Math.max(drawn, topLogprobs);
}

/** All of a row, logits [vocab]. */
export function allCandidates(logits: Float32Array, { temperature }: Sampling): Candidates {
  const ids = likeliest(logits, logits.length);
  return {
    ids,
    logits: ids.map((id) => logits[id]!),
    logTotal: logTotal(logits, 1),
    scaledLogTotal: logTotal(logits, temperature === 0 ? 1 : temperature),
    extent: 'all',
  };
}

/**
 * position: the place of the new token in its sequence, which keys the draw. null: the candidates are too few to tell.
 * NaN anywhere, or no finite logit, is a broken model and not a token: `generation_failed`.
 */
export function sample(
  candidates: Candidates,
  sampling: Sampling,
  position: number,
  topLogprobs: number,
): Sampled | null {
  const { ids, logits } = candidates;
  if (!Number.isFinite(candidates.logTotal))
    throw new NibbleError({
      code: 'generation_failed',
      reason: `the logits sum to exp(${candidates.logTotal}), which is no distribution`,
    });
  const rank = sampling.temperature === 0 ? 0 : drawRank(candidates, sampling, position);
  if (rank === null) return null;
  const ranked = (at: number) => ({ id: ids[at]!, logprob: logits[at]! - candidates.logTotal });
  const top = Array.from({ length: Math.min(topLogprobs, ids.length) }, (_, at) => ranked(at));
  return { ...ranked(rank), top };
}

/** Natural log probability of one token under logits [vocab]. */
export function logprobOf(logits: Float32Array, id: number): number {
  return logits[id]! - logTotal(logits, 1);
}

/** Temperature, then the k likeliest, then the smallest set that holds topP of what is left, then one draw, from the likeliest down. */
function drawRank(candidates: Candidates, sampling: Sampling, position: number): number | null {
  const { temperature, topK, topP, seed } = sampling;
  const { logits, scaledLogTotal, extent } = candidates;
  if (extent === 'some' && topK > logits.length) return null;
  const probability = (rank: number) => Math.exp(logits[rank]! / temperature - scaledLogTotal);
  const considered = topK > 0 ? Math.min(topK, logits.length) : logits.length;
  // Tokens beyond the candidates have a share of the draw too, unless top-k cuts them off.
  const hasMore = extent === 'some' && topK === 0;
  let total = 1;
  if (topK > 0) {
    total = 0;
    for (let rank = 0; rank < considered; rank++) total += probability(rank);
  }
  let kept = considered;
  if (topP < 1) {
    const wanted = topP * total;
    let sum = 0;
    for (kept = 0; kept < considered && sum < wanted; kept++) sum += probability(kept);
    if (sum < wanted && hasMore) return null;
    total = sum;
  }
  const target = uniform(seed, position) * total;
  let sum = 0;
  for (let rank = 0; rank < kept; rank++) {
    sum += probability(rank);
    if (target < sum) return rank;
  }
  if (hasMore && topP === 1) return null;
  // Rounding can leave the sum a hair under the target: the last token that has any weight.
  for (let rank = kept - 1; rank > 0; rank--) if (probability(rank) > 0) return rank;
  return 0;
}
