/** Limits: token buckets over values. */
import { expect, test } from 'vitest';
import { fullBuckets, giveBack, limitHeaders, refill, take } from '../../../edge/ledger/limits.ts';

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
  expect(taken.buckets.tokens).toBe(-900);
  expect(take(taken.buckets, limits, 0, 1, 60_000).kind).toBe('refused');
  expect(take(taken.buckets, limits, 0, 1, 91_000).kind).toBe('taken');
});

test('concurrency counts what is not settled', () => {
  expect(take(full, limits, 1, 1, 0).kind).toBe('taken');
  expect(take(full, limits, 2, 1, 0)).toEqual({ kind: 'refused', limit: 'concurrency', retryAfterS: 1 });
});

test('nothing is ever above the limit, and a clock that goes back gives nothing', () => {
  expect(giveBack(full, limits, 50, 0)).toEqual(full);
  const empty = { requests: 0, tokens: 0, atMs: 60_000 };
  expect(refill(empty, limits, 0)).toEqual(empty);
  expect(refill(empty, limits, 10 ** 9)).toMatchObject({ requests: 6, tokens: 600 });
});

test('a limit of zero refuses', () => {
  expect(take(full, { ...limits, requestsPerMin: 0 }, 0, 1, 0)).toMatchObject({ kind: 'refused', limit: 'requests' });
});

test('headers are whole numbers and durations', () => {
  expect(limitHeaders({ requests: 2.5, tokens: -10, atMs: 0 }, limits)).toEqual({
    'x-ratelimit-limit-requests': '6',
    'x-ratelimit-limit-tokens': '600',
    'x-ratelimit-remaining-requests': '2',
    'x-ratelimit-remaining-tokens': '0',
    'x-ratelimit-reset-requests': '35s',
    'x-ratelimit-reset-tokens': '1m1s',
  });
});
