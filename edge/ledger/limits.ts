/** Limits: requests and tokens a minute as token buckets, and concurrency. Integers only: values and `now` in, values out. */
import type { KeyLimits, Limits } from '../api/accounts.ts';

/** Wide: they stop a client that runs away, not a customer. An account may have its own. */
export const DEFAULT_LIMITS: Limits = { requestsPerMin: 60_000, tokensPerMin: 100_000_000, concurrency: 1000 };
/** A full bucket of it, in units, is an integer that a double holds exactly. */
export const MAX_PER_MIN = 10_000_000_000;
/** Units that one request or one token is counted in: a limit of N a minute refills N whole units a millisecond. */
export const UNITS = 60_000;

/** What is left in both buckets at `atMs`. Tokens may be in debt: see `take`. */
export interface Buckets {
  requestUnits: number;
  tokenUnits: number;
  atMs: number;
}

export type Taken =
  | { kind: 'taken'; buckets: Buckets }
  | { kind: 'refused'; limit: 'requests' | 'tokens' | 'concurrency'; retryAfterS: number };

export function fullBuckets(limits: Limits, nowMs: number): Buckets {
  return { requestUnits: limits.requestsPerMin * UNITS, tokenUnits: limits.tokensPerMin * UNITS, atMs: nowMs };
}

/** A key's limits with the account's where it has none of its own. */
export function narrowed(key: KeyLimits, account: Limits): Limits {
  return {
    requestsPerMin: key.requestsPerMin ?? account.requestsPerMin,
    tokensPerMin: key.tokensPerMin ?? account.tokensPerMin,
    concurrency: key.concurrency ?? account.concurrency,
  };
}

/** The buckets as they stand at `nowMs`: a limit refills evenly over a minute. A clock that went back refills nothing. */
export function refill(buckets: Buckets, limits: Limits, nowMs: number): Buckets {
  const elapsedMs = Math.max(0, nowMs - buckets.atMs);
  return {
    requestUnits: refilled(buckets.requestUnits, limits.requestsPerMin, elapsedMs),
    tokenUnits: refilled(buckets.tokenUnits, limits.tokensPerMin, elapsedMs),
    atMs: Math.max(nowMs, buckets.atMs),
  };
}

/**
 * Takes one request of at most `tokens` tokens. A request above the whole limit passes only from a full bucket and leaves a debt, so
 * that one big request is neither refused for ever nor free; `giveBack` returns what it did not use.
 */
export function take(buckets: Buckets, limits: Limits, active: number, tokens: number, nowMs: number): Taken {
  if (active >= limits.concurrency) return { kind: 'refused', limit: 'concurrency', retryAfterS: 1 };
  const now = refill(buckets, limits, nowMs);
  const missingRequests = UNITS - now.requestUnits;
  if (missingRequests > 0)
    return { kind: 'refused', limit: 'requests', retryAfterS: waitS(missingRequests, limits.requestsPerMin) };
  const missingTokens = Math.min(tokens, limits.tokensPerMin) * UNITS - now.tokenUnits;
  // A bucket of nothing is always full.
  if (missingTokens > 0 || (limits.tokensPerMin === 0 && tokens > 0))
    return { kind: 'refused', limit: 'tokens', retryAfterS: waitS(missingTokens, limits.tokensPerMin) };
  return {
    kind: 'taken',
    buckets: { ...now, requestUnits: now.requestUnits - UNITS, tokenUnits: now.tokenUnits - tokens * UNITS },
  };
}

/** Returns tokens that were taken at the upper bound and not used. */
export function giveBack(buckets: Buckets, limits: Limits, tokens: number, nowMs: number): Buckets {
  const now = refill(buckets, limits, nowMs);
  return { ...now, tokenUnits: Math.min(limits.tokensPerMin * UNITS, now.tokenUnits + tokens * UNITS) };
}

/** The buckets after their limits changed: what was used stays used. */
export function resized(buckets: Buckets, from: Limits, to: Limits, nowMs: number): Buckets {
  const now = refill(buckets, from, nowMs);
  const shifted = (units: number, before: number, after: number) => Math.min(after, units + after - before);
  return {
    requestUnits: shifted(now.requestUnits, from.requestsPerMin * UNITS, to.requestsPerMin * UNITS),
    tokenUnits: shifted(now.tokenUnits, from.tokensPerMin * UNITS, to.tokensPerMin * UNITS),
    atMs: now.atMs,
  };
}

/** One bucket pair and its limits: the account's, or a key's. */
export interface Meter {
  buckets: Buckets;
  limits: Limits;
}

/**
 * What is left as x-ratelimit-* headers, of requests and of tokens the meter that has least of it; `reset` is when its bucket is full
 * again, in OpenAI's notation ("1s", "6m0s").
 */
export function limitHeaders(meters: readonly [Meter, ...Meter[]]): Record<string, string> {
  const headers: Record<string, string> = {};
  const kinds = [
    { name: 'requests', unitsOf: ({ buckets }: Meter) => buckets.requestUnits, limit: 'requestsPerMin' },
    { name: 'tokens', unitsOf: ({ buckets }: Meter) => buckets.tokenUnits, limit: 'tokensPerMin' },
  ] as const;
  for (const { name, unitsOf, limit } of kinds) {
    const least = meters.reduce((found, meter) => (unitsOf(meter) < unitsOf(found) ? meter : found));
    const [units, perMin] = [unitsOf(least), least.limits[limit]];
    headers[`x-ratelimit-limit-${name}`] = String(perMin);
    headers[`x-ratelimit-remaining-${name}`] = String(Math.max(0, Math.floor(units / UNITS)));
    headers[`x-ratelimit-reset-${name}`] = duration(waitS(perMin * UNITS - units, perMin));
  }
  return headers;
}

/** Never multiplies what would not be exact: beyond what is missing, time does not matter. */
function refilled(units: number, perMin: number, elapsedMs: number): number {
  const missing = perMin * UNITS - units;
  if (missing <= 0 || perMin === 0) return Math.min(units, perMin * UNITS);
  return elapsedMs >= missing / perMin ? perMin * UNITS : units + elapsedMs * perMin;
}

function waitS(missingUnits: number, perMin: number): number {
  return perMin === 0 ? 60 : Math.ceil(missingUnits / (perMin * 1000));
}

function duration(seconds: number): string {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60)];
  if (minutes === 0) return `${seconds}s`;
  return `${hours === 0 ? '' : `${hours}h`}${minutes % 60}m${seconds % 60}s`;
}
