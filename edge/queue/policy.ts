/** Policy: which job goes to which socket, what a lost worker means, when to try again. Values and `now` in, values out. */
import type { Failure } from '../../core/errors.ts';
import type { Usage } from '../api/service.ts';
import type { JobStatus } from '../ledger/grant.ts';
import type { Tariff } from '../ledger/price.ts';
import { costPicoUsd, exactNumber } from '../ledger/price.ts';

/** A job that was on this many workers when they died, each at the same token of its answer, is taken for the cause. */
const MAX_WORKER_DEATHS = 2;
/** And no job may take more workers with it than this, wherever its answer had come to. */
const MAX_DEATHS_IN_ALL = 5;
/** Workers ping every 15 s; three are missing. */
export const SILENT_SOCKET_MS = 45_000;
/** A worker's key is checked again after so long, */
export const REVIEW_MS = 30_000;
/** and a socket whose key was not found good for so long gets no lease. */
export const TRUST_MS = 60_000;
/** How often an object that has nothing but sockets wakes to look at their keys. */
const IDLE_REVIEW_MS = 300_000;
/** A lease without a frame for so long has expired, though its worker still pings: far above a prefill of a long prompt on a CPU. */
export const LEASE_MS = 600_000;
/**
 * How long a worker whose socket is gone may take to come back before it counts as dead. A job waits so long for it only after this
 * object was restarted, when every socket went at once, or when one death more would end it; else another worker takes it at once.
 */
export const RETURN_MS = 2_000;
/** Tokens are written to storage every so many, or when the oldest unwritten one is so old. */
export const CHECKPOINT_TOKENS = 64;
export const CHECKPOINT_MS = 2_000;
/** A stream that carried nothing for so long gets a `waiting`: it keeps proxies, and only a write shows that the reader has left. */
export const WAITING_MS = 2_500;
/** A job without a reader, after the object was restarted, is cancelled when nobody re-attaches in this time. */
export const REATTACH_MS = 10_000;
/**
 * Readers of one job at once: each may hold a buffer, and replays are held to no other limit. One whose client went away quietly is a reader
 * until the next write, so a client that is cut off again and again has several for a while.
 */
export const MAX_READERS = 64;
/** An ended job stays readable for this long, one with an idempotency key longer. */
export const KEEP_ENDED_MS = 600_000;
/** While anything is not settled the object wakes at least this often, even after a crash. */
export const WAKE_MS = 15_000;

/** A waiting job. */
export interface Waiting {
  id: string;
  accountId: string;
  /** When it came, or came back. */
  waitingSinceMs: number;
}

/** What an account has had. `turn`: a number that grows with every lease; that of its latest. */
export interface Share {
  running: number;
  turn: number;
}

/** Who is at the other end of a connection: a worker that dialled in, or the edge's own fallback. */
export type SeatKind = 'worker' | 'fallback';

/** When the edge's own fallback answers for a model. `always`: even when workers are connected. */
export type FallbackPolicy = 'never' | 'when-no-worker' | 'always';

/** A socket that may take `free` more leases. */
export interface Seat {
  socketId: string;
  kind: SeatKind;
  free: number;
}

/** The seats that the policy lets take leases now. A connected worker that is busy is still a worker. */
export function eligible(seats: readonly Seat[], policy: FallbackPolicy): Seat[] {
  const workers = seats.filter((seat) => seat.kind === 'worker');
  switch (policy) {
    case 'never':
      return workers;
    case 'when-no-worker':
      return workers.length > 0 ? workers : [...seats];
    case 'always':
      return seats.filter((seat) => seat.kind === 'fallback');
    default:
      return policy satisfies never;
  }
}

/** Whether a job that waits now needs a fallback that is not connected. */
export function lacksFallback(seats: readonly Seat[], policy: FallbackPolicy): boolean {
  if (policy === 'never' || seats.some((seat) => seat.kind === 'fallback')) return false;
  return policy === 'always' || seats.length === 0;
}

/**
 * Leases to make now. A free slot goes to the account with the fewest jobs running, among equals to the one whose latest turn is longest
 * ago, and within an account to jobs in the order given; each to the socket with the most room. So an account's first job waits for no more
 * than one job of another account a slot, however many wait there. `shares` says what accounts have had; one that is not in it has had nothing.
 */
export function assign(
  waiting: readonly Waiting[],
  seats: readonly Seat[],
  shares: ReadonlyMap<string, Share>,
): { jobId: string; socketId: string }[] {
  const room = seats.map((seat) => ({ ...seat }));
  let numFree = room.reduce((sum, { free }) => sum + Math.max(0, free), 0);
  if (numFree === 0) return [];
  const lines = [...Map.groupBy(waiting, ({ accountId }) => accountId)].map(([accountId, jobs]) => {
    const { running, turn } = shares.get(accountId) ?? { running: 0, turn: -1 };
    return { jobs, next: 0, running, turn };
  });
  let turn = Math.max(0, ...lines.map((line) => line.turn));
  const leases: { jobId: string; socketId: string }[] = [];
  for (; numFree > 0; numFree--) {
    const open = lines.filter(({ jobs, next }) => next < jobs.length);
    if (open.length === 0) break;
    const line = open.reduce((best, other) => (isBefore(other, best) ? other : best));
    const widest = room.reduce((best, seat) => (seat.free > best.free ? seat : best));
    leases.push({ jobId: line.jobs[line.next++]!.id, socketId: widest.socketId });
    widest.free -= 1;
    line.running += 1;
    line.turn = ++turn;
  }
  return leases;
}

/** Among accounts alike in both, the one whose job came first is the first in `lines`, and stays it. */
function isBefore(left: Share, right: Share): boolean {
  return left.running === right.running ? left.turn < right.turn : left.running < right.running;
}

/** Whether one more job may wait. A job that a free worker takes at once does not wait. */
export function refusalOf(numWaiting: number, numFree: number, depth: number): Failure | null {
  if (numFree > numWaiting || numWaiting < depth) return null;
  return { code: 'queue_full', depth, retryAfterS: 2 };
}

/** The waiting jobs that no worker took in time. */
export function overdue<Job extends Waiting>(waiting: readonly Job[], timeoutMs: number, nowMs: number): Job[] {
  return waiting.filter((job) => nowMs - job.waitingSinceMs >= timeoutMs);
}

export function noCapacity(job: Waiting, nowMs: number): Failure {
  return { code: 'no_capacity', waitedMs: nowMs - job.waitingSinceMs, retryAfterS: 5 };
}

/** A worker, or the fallback, that was gone while it had a job. `tokens`: of the answer, accepted until then. */
export interface Death {
  workerId: string;
  epoch: number;
  tokens: number;
}

/**
 * Why a job ends after these deaths, the latest last; null: it goes on at another worker, after its accepted tokens. Those that got
 * further before they died were hardly killed by the job, so only deaths at the same token are held against it, as long as they are few.
 */
export function fateAfter(deaths: readonly Death[]): Failure | null {
  const last = deaths.at(-1);
  if (last === undefined) return null;
  const { tokens } = last;
  const here = deaths.length - 1 - deaths.findLastIndex((death) => death.tokens !== tokens);
  if (here >= MAX_WORKER_DEATHS) return { code: 'poison_prompt', deaths: here, tokens };
  return deaths.length >= MAX_DEATHS_IN_ALL ? { code: 'worker_lost', tokens } : null;
}

/**
 * What an ended job is billed. A completed one: its prompt and its tokens. Any other: the same when at least one token was accepted,
 * and nothing before that or when `free` says so. So a row's cost is always its tokens at its tariff.
 */
export function bill(
  job: { promptTokens: number; cachedTokens: number; accepted: number },
  ending: { status: JobStatus; free: boolean },
  tariff: Tariff,
): Usage {
  if (ending.free || (ending.status !== 'completed' && job.accepted === 0))
    return { promptTokens: 0, cachedTokens: 0, completionTokens: 0, costPicoUsd: 0 };
  return {
    promptTokens: job.promptTokens,
    cachedTokens: job.cachedTokens,
    completionTokens: job.accepted,
    costPicoUsd: exactNumber(costPicoUsd(tariff, job.promptTokens, job.accepted, job.cachedTokens)),
  };
}

/** When to send a settlement again that the ledger did not take for the `attempts`-th time. */
export function retryDelayMs(attempts: number): number {
  return Math.min(60_000, 250 * 2 ** Math.min(attempts, 16));
}

/** When to drop a job that ends now. */
export function dropMs(keepUntilMs: number | null, nowMs: number): number {
  return Math.max(nowMs + KEEP_ENDED_MS, keepUntilMs ?? 0);
}

/** When the object must wake: soon while anything is unsettled, else to drop the first ended job or to review its sockets. Null: never. */
export function nextWakeMs(
  unsettled: boolean,
  nextDropMs: number | null,
  numSockets: number,
  nowMs: number,
): number | null {
  if (unsettled) return nowMs + WAKE_MS;
  const nextReviewMs = numSockets === 0 ? null : nowMs + IDLE_REVIEW_MS;
  if (nextDropMs === null || nextReviewMs === null) return nextDropMs ?? nextReviewMs;
  return Math.min(nextDropMs, nextReviewMs);
}
