/** Limits: requests and tokens a minute as token buckets, and concurrency. Values and `now` in, values out. */

export interface Limits {
  requestsPerMin: number;
  tokensPerMin: number;
  concurrency: number;
}

/** Wide: they stop a client that runs away, not a customer. An account may have its own. */
export const DEFAULT_LIMITS: Limits = { requestsPerMin: 60_000, tokensPerMin: 100_000_000, concurrency: 1000 };

/** What is left in both buckets at `atMs`. Tokens may be in debt: see `take`. */
export interface Buckets {
  requests: number;
  tokens: number;
  atMs: number;
}

export type Taken =
  | { kind: 'taken'; buckets: Buckets }
  | { kind: 'refused'; limit: 'requests' | 'tokens' | 'concurrency'; retryAfterS: number };

export function fullBuckets(limits: Limits, nowMs: number): Buckets {
  return { requests: limits.requestsPerMin, tokens: limits.tokensPerMin, atMs: nowMs };
}

/** The buckets as they stand at `nowMs`: a limit refills evenly over a minute. A clock that went back refills nothing. */
export function refill(buckets: Buckets, limits: Limits, nowMs: number): Buckets {
  const minutes = Math.max(0, nowMs - buckets.atMs) / 60_000;
  return {
    requests: Math.min(limits.requestsPerMin, buckets.requests + minutes * limits.requestsPerMin),
    tokens: Math.min(limits.tokensPerMin, buckets.tokens + minutes * limits.tokensPerMin),
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
  if (now.requests < 1)
    return { kind: 'refused', limit: 'requests', retryAfterS: waitS(1 - now.requests, limits.requestsPerMin) };
  const needed = Math.min(tokens, limits.tokensPerMin);
  if (now.tokens < needed)
    return { kind: 'refused', limit: 'tokens', retryAfterS: waitS(needed - now.tokens, limits.tokensPerMin) };
  return { kind: 'taken', buckets: { ...now, requests: now.requests - 1, tokens: now.tokens - tokens } };
}

/** Returns tokens that were taken at the upper bound and not used. */
export function giveBack(buckets: Buckets, limits: Limits, tokens: number, nowMs: number): Buckets {
  const now = refill(buckets, limits, nowMs);
  return { ...now, tokens: Math.min(limits.tokensPerMin, now.tokens + tokens) };
}

/** The buckets as x-ratelimit-* headers; `reset` is when the bucket is full again, in OpenAI's notation ("1s", "6m0s"). */
export function limitHeaders(buckets: Buckets, limits: Limits): Record<string, string> {
  return {
    'x-ratelimit-limit-requests': String(limits.requestsPerMin),
    'x-ratelimit-limit-tokens': String(limits.tokensPerMin),
    'x-ratelimit-remaining-requests': String(Math.max(0, Math.floor(buckets.requests))),
    'x-ratelimit-remaining-tokens': String(Math.max(0, Math.floor(buckets.tokens))),
    'x-ratelimit-reset-requests': duration(waitS(limits.requestsPerMin - buckets.requests, limits.requestsPerMin)),
    'x-ratelimit-reset-tokens': duration(waitS(limits.tokensPerMin - buckets.tokens, limits.tokensPerMin)),
  };
}

function waitS(missing: number, perMin: number): number {
  return perMin === 0 ? 60 : Math.ceil((missing / perMin) * 60);
}

function duration(seconds: number): string {
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
