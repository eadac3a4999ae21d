/** Policy: who gets which job, what a death means, what an end costs. */
import { expect, test } from 'vitest';
import {
  assign,
  bill,
  dropMs,
  eligible,
  fateAfter,
  lacksFallback,
  nextWakeMs,
  overdue,
  refusalOf,
  retryDelayMs,
  type Seat,
} from '../../../edge/queue/policy.ts';

const waiting = ['a', 'b', 'c'].map((id, at) => ({ id, waitingSinceMs: at * 10 }));

test('jobs go in order to the socket with the most room, and no further than room goes', () => {
  const seats: Seat[] = [
    { socketId: 'x', kind: 'worker', free: 1 },
    { socketId: 'y', kind: 'worker', free: 2 },
  ];
  expect(assign(waiting, seats)).toEqual([
    { jobId: 'a', socketId: 'y' },
    { jobId: 'b', socketId: 'x' },
    { jobId: 'c', socketId: 'y' },
  ]);
  expect(assign(waiting, [{ socketId: 'x', kind: 'worker', free: 1 }])).toEqual([{ jobId: 'a', socketId: 'x' }]);
  expect(assign(waiting, [{ socketId: 'x', kind: 'worker', free: -1 }])).toEqual([]);
  expect(assign(waiting, [])).toEqual([]);
});

test('a queue is full at its depth, unless a worker is free', () => {
  expect(refusalOf(2, 0, 3)).toBeNull();
  expect(refusalOf(3, 0, 3)).toMatchObject({ code: 'queue_full', depth: 3 });
  expect(refusalOf(0, 1, 0)).toBeNull();
});

test('waiting ends after the timeout', () => {
  expect(overdue(waiting, 100, 110).map(({ id }) => id)).toEqual(['a', 'b']);
});

const deathsAt = (...places: number[]) =>
  places.map((tokens, at) => ({ workerId: `worker-${at}`, epoch: at + 1, tokens }));

test('a job outlives its workers, but not two that died at the same token of its answer', () => {
  for (const places of [[], [0], [5], [0, 5], [5, 5, 6].slice(1), [3, 5, 3]])
    expect(fateAfter(deathsAt(...places)), String(places)).toBeNull();
  expect(fateAfter(deathsAt(0, 0))).toEqual({ code: 'poison_prompt', deaths: 2, tokens: 0 });
  expect(fateAfter(deathsAt(2, 5, 5))).toEqual({ code: 'poison_prompt', deaths: 2, tokens: 5 });
});

test('a job that takes worker after worker with it ends, though it gets further each time', () => {
  expect(fateAfter(deathsAt(1, 2, 3, 4))).toBeNull();
  expect(fateAfter(deathsAt(1, 2, 3, 4, 5))).toEqual({ code: 'worker_lost', tokens: 5 });
});

test('the policy says whose seats take leases, and when the fallback is missing', () => {
  const busy: Seat = { socketId: 'x', kind: 'worker', free: 0 };
  const fallback: Seat = { socketId: 'fallback:y', kind: 'fallback', free: 4 };
  expect(eligible([busy, fallback], 'never')).toEqual([busy]);
  expect(eligible([busy, fallback], 'when-no-worker')).toEqual([busy]);
  expect(eligible([fallback], 'when-no-worker')).toEqual([fallback]);
  expect(eligible([busy, fallback], 'always')).toEqual([fallback]);
  expect([[], [busy], [fallback]].map((seats) => lacksFallback(seats, 'never'))).toEqual([false, false, false]);
  expect([[], [busy], [fallback]].map((seats) => lacksFallback(seats, 'when-no-worker'))).toEqual([true, false, false]);
  expect([[], [busy], [fallback]].map((seats) => lacksFallback(seats, 'always'))).toEqual([true, true, false]);
});

test('accepted tokens are billed however the job ended; nothing is before the first, or when it is free', () => {
  const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
  const job = { promptTokens: 10, cachedTokens: 4, accepted: 2 };
  const none = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, costPicoUsd: 0 };
  const both = { promptTokens: 10, cachedTokens: 4, completionTokens: 2, costPicoUsd: 40 };
  for (const status of ['completed', 'cancelled', 'failed'] as const)
    expect(bill(job, { status, free: false }, tariff)).toEqual(both);
  for (const status of ['cancelled', 'failed'] as const)
    expect(bill({ ...job, accepted: 0 }, { status, free: false }, tariff)).toEqual(none);
  expect(bill({ ...job, accepted: 0 }, { status: 'completed', free: false }, tariff).costPicoUsd).toBe(30);
  expect(bill(job, { status: 'failed', free: true }, tariff)).toEqual(none);
  const cheaper = { ...tariff, cachedPromptMicroUsdPerMtok: 1 };
  expect(bill(job, { status: 'completed', free: false }, cheaper).costPicoUsd).toBe(6 * 3 + 4 * 1 + 2 * 5);
});

test('retries grow to a minute, and an unsettled queue wakes soon', () => {
  expect([1, 2, 3, 100].map(retryDelayMs)).toEqual([500, 1000, 2000, 60_000]);
  expect(nextWakeMs(true, 0, 1000)).toBe(16_000);
  expect(nextWakeMs(false, 600_005, 1000)).toBe(600_005);
  expect(nextWakeMs(false, null, 1000)).toBeNull();
});

test('an ended job is kept for ten minutes, and one with an idempotency key as long as its key', () => {
  expect(dropMs(null, 1000)).toBe(601_000);
  expect(dropMs(86_400_000, 1000)).toBe(86_400_000);
  expect(dropMs(5_000, 1_000_000)).toBe(1_600_000);
});
