/** Live job: what the queue object holds in memory of a job that has not ended, or that is still being read. */
import type { Failure } from '../../core/errors.ts';
import type { FinishReason, TokenOut } from '../../core/protocol.ts';
import type { JobEvent, Usage } from '../api/service.ts';
import type { Grant } from '../ledger/grant.ts';
import type { Progress } from './lease.ts';
import type { Death } from './policy.ts';
import type { EventReader } from './reader.ts';

export interface Lease {
  socketId: string;
  epoch: number;
  /** When its last frame came, at first when it was made. */
  heardMs: number;
  /** `replaying`: its worker was told what was accepted, and frames that were on their way may come before those it sends again. */
  phase: 'flowing' | 'replaying';
}

export type Ending =
  | { status: 'completed'; reason: FinishReason; text: string }
  | { status: 'cancelled' }
  | { status: 'failed'; failure: Failure; free: boolean };

export type EndEvent = Extract<JobEvent, { type: 'finished' | 'failed' }>;

export interface LiveJob {
  readonly id: string;
  readonly accountId: string;
  readonly grant: Grant;
  /** Order of arrival; a job that is queued again keeps it and so goes ahead of later ones. */
  readonly seq: number;
  /** When it came, or lost its lease. */
  waitingSinceMs: number;
  /** Leases so far; the live lease has this number. */
  epoch: number;
  /** Of workers that had it, in order. */
  deaths: Death[];
  lease: Lease | null;
  /** The worker that has the latest lease. Without a lease: it may come back with it. Null: nobody may. */
  holder: string | null;
  /** A waiting job is not leased before: its holder may come back with it. */
  heldUntilMs: number;
  /** Of the worker that has or had it. */
  backend: string | null;
  /** As the first worker said that began it: later ones do not change what is billed. */
  started: { promptTokens: number; cachedTokens: number } | null;
  /** Accepted tokens in storage; the rest is the tail. */
  stored: number;
  tail: TokenOut[];
  /** When the oldest token of the tail came. */
  tailSinceMs: number;
  end: EndEvent | null;
  readonly readers: Set<EventReader>;
  /** When it came into this instance's memory, and later when it ended. */
  sinceMs: number;
}

export function newJob(grant: Grant, seq: number, nowMs: number): LiveJob {
  return {
    id: grant.jobId,
    accountId: grant.accountId,
    grant,
    seq,
    waitingSinceMs: nowMs,
    epoch: 0,
    deaths: [],
    lease: null,
    holder: null,
    heldUntilMs: 0,
    backend: null,
    started: null,
    stored: 0,
    tail: [],
    tailSinceMs: nowMs,
    end: null,
    readers: new Set(),
    sinceMs: nowMs,
  };
}

/** Whether anybody waits for it: a reader, or a client that may come back with its idempotency key. */
export function isWanted(job: LiveJob): boolean {
  return job.readers.size > 0 || job.grant.keepUntilMs !== null;
}

export function acceptedTokens(job: LiveJob): number {
  return job.stored + job.tail.length;
}

export function progressOf(job: LiveJob): Progress {
  return {
    started: job.started !== null,
    phase: job.lease?.phase ?? 'flowing',
    accepted: acceptedTokens(job),
    promptTokenLimit: job.grant.promptTokenLimit,
    completionTokenLimit: job.grant.completionTokenLimit,
  };
}

/** What the readers of a job see as its end. */
export function endEventOf(ending: Ending, usage: Usage, accepted: number, backend: string | null): EndEvent {
  switch (ending.status) {
    case 'completed':
      return { type: 'finished', reason: ending.reason, text: ending.text, usage, backend: backend ?? '' };
    case 'cancelled':
      return { type: 'failed', failure: { code: 'cancelled', tokens: accepted }, usage };
    case 'failed':
      return { type: 'failed', failure: ending.failure, usage };
    default:
      return ending satisfies never;
  }
}
