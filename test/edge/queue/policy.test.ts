/** Policy: who gets which job, what a death means, what an end costs. */
import { expect, test } from 'vitest';
import { afterDeath, assign, bill, nextWakeMs, overdue, refusalOf, retryDelayMs } from '../../../edge/queue/policy.ts';

const waiting = ['a', 'b', 'c'].map((id, at) => ({ id, enqueuedMs: at * 10 }));

test('jobs go in order to the socket with the most room, and no further than room goes', () => {
  const seats = [
    { socketId: 'x', free: 1 },
    { socketId: 'y', free: 2 },
  ];
  expect(assign(waiting, seats)).toEqual([
    { jobId: 'a', socketId: 'y' },
    { jobId: 'b', socketId: 'x' },
    { jobId: 'c', socketId: 'y' },
  ]);
  expect(assign(waiting, [{ socketId: 'x', free: 1 }])).toEqual([{ jobId: 'a', socketId: 'x' }]);
  expect(assign(waiting, [{ socketId: 'x', free: -1 }])).toEqual([]);
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

test('a job goes back to the queue once, and never after its first token', () => {
  expect(afterDeath({ accepted: 0, deaths: 1 })).toEqual({ kind: 'requeue' });
  expect(afterDeath({ accepted: 0, deaths: 2 })).toMatchObject({ kind: 'fail', failure: { code: 'worker_lost' } });
  expect(afterDeath({ accepted: 5, deaths: 1 })).toMatchObject({ kind: 'fail', failure: { tokens: 5 } });
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
});

test('retries grow to a minute, and an unsettled queue wakes soon', () => {
  expect([1, 2, 3, 100].map(retryDelayMs)).toEqual([500, 1000, 2000, 60_000]);
  expect(nextWakeMs(true, 0, 1000)).toBe(16_000);
  expect(nextWakeMs(false, 5, 1000)).toBe(600_005);
  expect(nextWakeMs(false, null, 1000)).toBeNull();
});
