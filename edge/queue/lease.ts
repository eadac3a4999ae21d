/** Lease: what a worker's frame means for the job it was leased. Pure: the shell books what this decides. */
import type { Failure } from '../../core/errors.ts';
import type { FinishReason, Frame, TokenOut } from '../../core/protocol.ts';

/** What the queue has accepted of a job, under all of its leases, and what was reserved for it. */
export interface Progress {
  started: boolean;
  /** While frames are sent again, earlier ones that were on their way may come first; they do not fit and do not count. */
  phase: 'flowing' | 'replaying';
  accepted: number;
  promptTokenLimit: number;
  completionTokenLimit: number;
}

export type Verdict =
  | { kind: 'started'; promptTokens: number; cachedTokens: number }
  | { kind: 'accepted'; tokens: TokenOut[] }
  /** Nothing that was not booked before: a worker that goes on after another says `started` again. */
  | { kind: 'repeated' }
  /** It will be sent again, after what must come before it. */
  | { kind: 'premature' }
  /** `honest`: the worker counts as many tokens as were accepted. */
  | { kind: 'finished'; reason: FinishReason; text: string; honest: boolean }
  /** The worker gave up. */
  | { kind: 'failed'; failure: Failure }
  /** The frame breaks the protocol or the reservation: the job ends here and the worker is told to stop. */
  | { kind: 'broken'; failure: Failure; free: boolean };

/** The frame must be of the live lease. Tokens count only in order, once, and within the reservation. */
export function judge(progress: Progress, frame: Frame): Verdict {
  const broken = (reason: string): Verdict => ({
    kind: 'broken',
    failure: { code: 'generation_failed', reason },
    free: false,
  });
  const gap = (reason: string): Verdict => (progress.phase === 'replaying' ? { kind: 'premature' } : broken(reason));
  switch (frame.kind) {
    case 'started':
      if (progress.started) return { kind: 'repeated' };
      if (frame.cachedTokens > frame.promptTokens)
        return broken(`${frame.cachedTokens} of job ${frame.jobId}'s ${frame.promptTokens} prompt tokens were cached`);
      if (frame.promptTokens > progress.promptTokenLimit)
        return {
          kind: 'broken',
          free: true,
          failure: {
            code: 'reservation_exceeded',
            promptTokens: frame.promptTokens,
            reservedTokens: progress.promptTokenLimit,
          },
        };
      return { kind: 'started', promptTokens: frame.promptTokens, cachedTokens: frame.cachedTokens };
    case 'tokens': {
      if (!progress.started) return gap(`tokens of job ${frame.jobId} came before it was started`);
      if (frame.from > progress.accepted)
        return gap(`tokens of job ${frame.jobId} start at ${frame.from}, but ${progress.accepted} were accepted`);
      const tokens = frame.tokens.slice(progress.accepted - frame.from);
      if (tokens.length === 0) return { kind: 'repeated' };
      const total = progress.accepted + tokens.length;
      if (total > progress.completionTokenLimit)
        return broken(`job ${frame.jobId} has ${total} tokens, but ${progress.completionTokenLimit} were reserved`);
      return { kind: 'accepted', tokens };
    }
    case 'finished':
      if (!progress.started) return gap(`job ${frame.jobId} finished before it was started`);
      if (frame.tokens > progress.accepted && progress.phase === 'replaying') return { kind: 'premature' };
      return {
        kind: 'finished',
        reason: frame.reason,
        text: frame.text,
        honest: frame.tokens === progress.accepted,
      };
    case 'failed':
      return { kind: 'failed', failure: clientFailure(frame.failure) };
    default:
      return frame satisfies never;
  }
}

/** A worker's failure as callers may see it: what is about their request stays, all else is the model's failure, its reason for the log. */
function clientFailure(failure: Failure): Failure {
  switch (failure.code) {
    case 'context_exceeded': {
      const { promptTokens, maxNewTokens, contextTokens } = failure;
      if (![promptTokens, maxNewTokens, contextTokens].every((count) => Number.isSafeInteger(count))) break;
      return { code: 'context_exceeded', promptTokens, maxNewTokens, contextTokens };
    }
    case 'invalid_request':
    case 'unsupported_field': {
      const { param, reason } = failure;
      if (typeof reason !== 'string' || (param !== null && typeof param !== 'string')) break;
      return failure.code === 'invalid_request'
        ? { code: 'invalid_request', param, reason: reason.slice(0, 500) }
        : { code: 'unsupported_field', param: param ?? '', reason: reason.slice(0, 500) };
    }
  }
  return { code: 'generation_failed', reason: `the worker reported ${JSON.stringify(failure).slice(0, 1000)}` };
}
