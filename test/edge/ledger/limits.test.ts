/** Limits: token buckets over values. */
import { expect, test } from 'vitest';
import {
  fullBuckets,
  giveBack,
  limitHeaders,
  MAX_PER_MIN,
  refill,
  resized,
  take,
  UNITS,
} from '../../../edge/ledger/limits.ts';

import { seeded } from './seeded.ts';

const limits = { requestsPerMin: 6, tokensPerMin: 600, concurrency: 2 };
const full = fullBuckets(limits, 0);

test('the seventh request of a minute waits for a sixth of it', () => {
  let buckets = full;
  for (let n = 0; n < 6; n++) {
    const taken = take(buckets, limits, 0, 1, 0);
    if (taken.kind === 'refused') throw new Error(`request ${n} was refused`);
    buckets = taken.buckets;
  }
  expect(take(buckets, limits, 0, 1, 0)).toEqual({ kind: 'refused', limit: 'requests', retryAfterS: 10 });
  expect(take(buckets, limits, 0, 1, 10_000).kind).toBe('taken');
});

test('tokens are refused until enough have come back', () => {
  const taken = take(full, limits, 0, 500, 0);
  if (taken.kind === 'refused') throw new Error('refused');
  expect(take(taken.buckets, limits, 0, 200, 0)).toEqual({ kind: 'refused', limit: 'tokens', retryAfterS: 10 });
  expect(take(giveBack(taken.buckets, limits, 100, 0), limits, 0, 200, 0).kind).toBe('taken');
});

test('one request above the whole limit passes from a full bucket and leaves a debt', () => {
  const taken = take(full, limits, 0, 1500, 0);
  if (taken.kind === 'refused') throw new Error('refused');
  expect(taken.buckets.tokenUnits).toBe(-900 * UNITS);
  expect(take(taken.buckets, limits, 0, 1, 60_000).kind).toBe('refused');
  expect(take(taken.buckets, limits, 0, 1, 91_000).kind).toBe('taken');
});

test('concurrency counts what is not settled', () => {
  expect(take(full, limits, 1, 1, 0).kind).toBe('taken');
  expect(take(full, limits, 2, 1, 0)).toEqual({ kind: 'refused', limit: 'concurrency', retryAfterS: 1 });
});

test('nothing is ever above the limit, and a clock that goes back gives nothing', () => {
  expect(giveBack(full, limits, 50, 0)).toEqual(full);
  const empty = { requestUnits: 0, tokenUnits: 0, atMs: 60_000 };
  expect(refill(empty, limits, 0)).toEqual(empty);
  expect(refill(empty, limits, 10 ** 9)).toMatchObject({ requestUnits: 6 * UNITS, tokenUnits: 600 * UNITS });
});

test('a limit of zero refuses', () => {
  const none = { requestsPerMin: 0, tokensPerMin: 0, concurrency: 0 };
  for (const [name, limit] of [
    ['requests', 'requestsPerMin'],
    ['tokens', 'tokensPerMin'],
    ['concurrency', 'concurrency'],
  ] as const) {
    const held = { ...limits, [limit]: none[limit] };
    expect(take(fullBuckets(held, 0), held, 0, 1, 0)).toMatchObject({ kind: 'refused', limit: name });
  }
});

test('headers are whole numbers and durations', () => {
  const buckets = { requestUnits: 2.5 * UNITS, tokenUnits: -10 * UNITS, atMs: 0 };
  expect(limitHeaders([{ buckets, limits }])).toEqual({
    'x-ratelimit-limit-requests': '6',
    'x-ratelimit-limit-tokens': '600',
    'x-ratelimit-remaining-requests': '2',
    'x-ratelimit-remaining-tokens': '0',
    'x-ratelimit-reset-requests': '35s',
    'x-ratelimit-reset-tokens': '1m1s',
  });
});

test('a debt of hours is written with hours', () => {
  const buckets = { requestUnits: 6 * UNITS, tokenUnits: -60 * 600 * UNITS, atMs: 0 };
  expect(limitHeaders([{ buckets, limits }])).toMatchObject({ 'x-ratelimit-reset-tokens': '1h1m0s' });
});

test('of two meters the headers show the one with less left', () => {
  const account = { buckets: full, limits };
  const key = {
    limits: { ...limits, requestsPerMin: 3, tokensPerMin: 1000 },
    buckets: { requestUnits: 2 * UNITS, tokenUnits: 900 * UNITS, atMs: 0 },
  };
  expect(limitHeaders([account, key])).toMatchObject({
    'x-ratelimit-limit-requests': '3',
    'x-ratelimit-remaining-requests': '2',
    'x-ratelimit-limit-tokens': '600',
    'x-ratelimit-remaining-tokens': '600',
  });
});

test('buckets are whole numbers at any rate, and refilling in steps is refilling at once', () => {
  const random = seeded(1);
  for (let round = 0; round < 2000; round++) {
    const some = { requestsPerMin: random(MAX_PER_MIN), tokensPerMin: random(MAX_PER_MIN), concurrency: 1 };
    const start = { requestUnits: -random(1e12), tokenUnits: random(some.tokensPerMin + 1) * UNITS, atMs: 0 };
    const [first, second] = [random(200_000), random(200_000)];
    const steps = refill(refill(start, some, first), some, first + second);
    expect(steps).toEqual(refill(start, some, first + second));
    expect([steps.requestUnits, steps.tokenUnits].every(Number.isSafeInteger)).toBe(true);
    expect(steps.tokenUnits).toBeLessThanOrEqual(some.tokensPerMin * UNITS);
  }
});

test('what was used stays used when a limit changes', () => {
  const taken = take(full, limits, 0, 500, 0);
  if (taken.kind === 'refused') throw new Error('refused');
  const wider = { ...limits, tokensPerMin: 1000 };
  expect(resized(taken.buckets, limits, wider, 0).tokenUnits).toBe(500 * UNITS);
  expect(resized(taken.buckets, limits, { ...limits, tokensPerMin: 300 }, 0).tokenUnits).toBe(-200 * UNITS);
});
