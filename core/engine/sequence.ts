/** Sequence: one job's tokens inside the engine, and when it ends. */
import type { FinishReason, Job } from '../protocol.ts';
import type { Detokenizer } from '../text/detokenizer.ts';
import type { Sampling } from './sampler.ts';

export interface Sequence {
  readonly job: Job;
  readonly sampling: Sampling;
  /** Prompt and answer so far. */
  readonly ids: number[];
  readonly promptTokens: number;
  /** The answer may not be longer: by the job's own limit or the context. */
  readonly maxNewTokens: number;
  /** Tokens that the model may be fed: prompt and longest answer but its last; without a limit by the job the model's context, whatever this worker's cache holds. */
  readonly plannedTokens: number;
  /** Leading tokens whose keys and values are in pages. */
  numCachedTokens: number;
  /** Pages of the cached tokens, in order of position. */
  readonly pageIds: number[];
  readonly detokenizer: Detokenizer;
}

export function newTokensOf(sequence: Sequence): number {
  return sequence.ids.length - sequence.promptTokens;
}

/** Why the answer ends with the token just appended, or null. An end of sequence or a stop string wins over the length. */
export function finishReason(
  sequence: Sequence,
  eosTokenIds: ReadonlySet<number>,
  stopped: boolean,
): FinishReason | null {
  if (sequence.job.eos === 'stop' && eosTokenIds.has(sequence.ids[sequence.ids.length - 1]!)) return 'eos';
  if (stopped) return 'stop';
  return newTokensOf(sequence) >= sequence.maxNewTokens ? 'length' : null;
}
