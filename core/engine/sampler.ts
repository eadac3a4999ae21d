/** Sampler: from one row of logits to a token and its log probability. */
import { NibbleError } from '../errors.ts';
import type { SamplingDefaults } from '../model/config.ts';
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

/** logits [vocab] f32; position: the place of the new token in its sequence, which keys the draw. Ties go to the lowest id. */
export function sample(logits: Float32Array, sampling: Sampling, position: number, topLogprobs: number): Sampled {
  const highest = highestOf(logits);
  let total = 0;
  for (let id = 0; id < logits.length; id++) total += Math.exp(logits[id]! - highest);
  const logTotal = highest + Math.log(total);
  const id = sampling.temperature === 0 ? logits.indexOf(highest) : draw(logits, highest, sampling, position);
  const top =
    topLogprobs === 0 ? [] : likeliest(logits, topLogprobs).map((id) => ({ id, logprob: logits[id]! - logTotal }));
  return { id, logprob: logits[id]! - logTotal, top };
}

/** Natural log probability of one token. */
export function logprobOf(logits: Float32Array, id: number): number {
  const highest = highestOf(logits);
  let total = 0;
  for (let other = 0; other < logits.length; other++) total += Math.exp(logits[other]! - highest);
  return logits[id]! - highest - Math.log(total);
}

/** NaN anywhere, or no finite logit, is a broken model and not a token. */
function highestOf(logits: Float32Array): number {
  let highest = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (Number.isNaN(logit))
      throw new NibbleError({ code: 'generation_failed', reason: `the logit of token ${id} is not a number` });
    if (logit > highest) highest = logit;
  }
  if (!Number.isFinite(highest))
    throw new NibbleError({ code: 'generation_failed', reason: `the highest logit is ${highest}` });
  return highest;
}

/** Temperature, then the k likeliest, then the smallest set that holds topP of what is left, then one draw. */
function draw(
  logits: Float32Array,
  highest: number,
  { temperature, topK, topP, seed }: Sampling,
  position: number,
): number {
  const cut = topP < 1 || (topK > 0 && topK < logits.length);
  const ids = cut ? likeliest(logits, topK > 0 ? Math.min(topK, logits.length) : logits.length) : null;
  const count = ids?.length ?? logits.length;
  const weights = new Float64Array(count);
  let total = 0;
  for (let rank = 0; rank < count; rank++) {
    weights[rank] = Math.exp((logits[ids?.[rank] ?? rank]! - highest) / temperature);
    total += weights[rank]!;
  }
  let kept = count;
  if (topP < 1) {
    const wanted = topP * total;
    let sum = 0;
    for (kept = 0; kept < count && sum < wanted; kept++) sum += weights[kept]!;
    total = sum;
  }
  const target = uniform(seed, position) * total;
  let sum = 0;
  for (let rank = 0; rank < kept; rank++) {
    sum += weights[rank]!;
    if (target < sum) return ids?.[rank] ?? rank;
  }
  // Rounding can leave the sum a hair under the target: the last token that has any weight.
  for (let rank = kept - 1; rank > 0; rank--) if (weights[rank]! > 0) return ids?.[rank] ?? rank;
  return ids?.[0] ?? 0;
}

/** The `count` highest logits' ids, highest first, lower id first among equals. */
function likeliest(logits: Float32Array, count: number): number[] {
  const order = (a: number, b: number) => logits[b]! - logits[a]! || a - b;
  if (count >= logits.length / 8) return Array.from(logits.keys()).sort(order).slice(0, count);
  // Few of many: a sorted window; most ids fail the first comparison.
  const best: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    if (best.length === count && order(id, best[count - 1]!) > 0) continue;
    let at = best.length;
    while (at > 0 && order(id, best[at - 1]!) < 0) at--;
    best.splice(at, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}
