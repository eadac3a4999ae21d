/** Policy: who gets which job, what a death means, what an end costs. */
import { expect, test } from 'vitest';
import { uniform } from '../../../core/engine/random.ts';
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
  type Share,
} from '../../../edge/queue/policy.ts';

const job = (id: string, accountId = 'one') => ({ id, accountId, waitingSinceMs: 0 });
const waiting = ['a', 'b', 'c'].map((id, at) => ({ ...job(id), waitingSinceMs: at * 10 }));
const nothing = new Map<string, Share>();
const seat = (socketId: string, free: number): Seat => ({ socketId, kind: 'worker', free });

test('jobs of an account go in order to the socket with the most room, and no further than room goes', () => {
  expect(assign(waiting, [seat('x', 1), seat('y', 2)], nothing)).toEqual([
    { jobId: 'a', socketId: 'y' },
    { jobId: 'b', socketId: 'x' },
    { jobId: 'c', socketId: 'y' },
  ]);
  expect(assign(waiting, [seat('x', 1)], nothing)).toEqual([{ jobId: 'a', socketId: 'x' }]);
  expect(assign(waiting, [seat('x', -1), seat('y', 0)], nothing)).toEqual([]);
  expect(assign(waiting, [], nothing)).toEqual([]);
});

const idsOf = (leases: { jobId: string }[]) => leases.map(({ jobId }) => jobId);

test('a free slot goes to the account with the fewest jobs running, then to the one that waited longest for its turn', () => {
  const lines = [job('a1', 'a'), job('a2', 'a'), job('a3', 'a'), job('b1', 'b'), job('c1', 'c')];
  const shares = (a: Share, b: Share) => new Map(Object.entries({ a, b }));
  expect(idsOf(assign(lines, [seat('x', 9)], nothing))).toEqual(['a1', 'b1', 'c1', 'a2', 'a3']);
  expect(idsOf(assign(lines, [seat('x', 2)], shares({ running: 1, turn: 1 }, { running: 0, turn: 2 })))).toEqual([
    'c1',
    'b1',
  ]);
  expect(idsOf(assign(lines, [seat('x', 2)], shares({ running: 0, turn: 1 }, { running: 0, turn: 2 })))).toEqual([
    'c1',
    'a1',
  ]);
});

test('in random crowds every slot is filled, nobody is served twice while somebody with less waits, and accounts keep their order', () => {
  let draw = 0;
  const below = (n: number) => Math.floor(uniform(9, draw++) * n);
  for (let round = 0; round < 500; round++) {
    const accounts = 1 + below(5);
    const crowd = Array.from({ length: below(40) }, (_, at) => job(String(at), `account-${below(accounts)}`));
    const seats = Array.from({ length: below(5) }, (_, at) => seat(`s${at}`, below(7) - 2));
    const shares = new Map<string, Share>();
    for (let at = 0; at < accounts; at++) shares.set(`account-${at}`, { running: below(4), turn: below(100) });
    const leases = assign(crowd, seats, shares);
    const room = seats.reduce((sum, { free }) => sum + Math.max(0, free), 0);
    expect(leases).toHaveLength(Math.min(room, crowd.length));
    for (const { socketId, free } of seats)
      expect(leases.filter((lease) => lease.socketId === socketId).length).toBeLessThanOrEqual(Math.max(0, free));
    const accountOf = new Map(crowd.map(({ id, accountId }) => [id, accountId]));
    const running = new Map([...shares].map(([accountId, share]) => [accountId, share.running]));
    const served = new Set<string>();
    for (const { jobId } of leases) {
      const accountId = accountOf.get(jobId)!;
      const rest = crowd.filter(({ id }) => !served.has(id));
      expect(rest.find((other) => other.accountId === accountId)?.id).toBe(jobId);
      const least = Math.min(...rest.map((other) => running.get(other.accountId)!));
      expect(running.get(accountId)).toBe(least);
      running.set(accountId, least + 1);
      served.add(jobId);
    }
  }
});

test('a thousand waiting jobs of one account delay the first of another by one job a slot at the most', () => {
  for (const slots of [1, 3, 8]) {
    const shares = new Map<string, Share>();
    let turn = 0;
    let line = Array.from({ length: 1000 }, (_, at) => job(`many-${at}`, 'many'));
    let running: string[] = [];
    const lease = () => {
      const leases = assign(line, [seat('x', slots - running.length)], shares);
      for (const { jobId } of leases) {
        const accountId = line.find(({ id }) => id === jobId)!.accountId;
        const share = shares.get(accountId) ?? { running: 0, turn: -1 };
        shares.set(accountId, { running: share.running + 1, turn: ++turn });
        running.push(accountId);
      }
      line = line.filter(({ id }) => !leases.some(({ jobId }) => jobId === id));
      return leases.map(({ jobId }) => jobId);
    };
    lease();
    for (let newcomer = 0; newcomer < 20; newcomer++) {
      line.push(job(`new-${newcomer}`, `account-${newcomer}`));
      const [ended] = running.splice(newcomer % running.length, 1);
      const share = shares.get(ended!)!;
      shares.set(ended!, { ...share, running: share.running - 1 });
      expect(lease(), `${slots} slots`).toEqual([`new-${newcomer}`]);
      running = running.filter((accountId) => accountId === 'many');
      lease();
    }
  }
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
  expect(nextWakeMs(true, 0, 1, 1000)).toBe(16_000);
  expect(nextWakeMs(false, 600_005, 0, 1000)).toBe(600_005);
  expect(nextWakeMs(false, null, 0, 1000)).toBeNull();
  expect(nextWakeMs(false, 600_005, 1, 1000)).toBe(301_000);
  expect(nextWakeMs(false, 2000, 1, 1000)).toBe(2000);
  expect(nextWakeMs(false, null, 1, 1000)).toBe(301_000);
});

test('an ended job is kept for ten minutes, and one with an idempotency key as long as its key', () => {
  expect(dropMs(null, 1000)).toBe(601_000);
  expect(dropMs(86_400_000, 1000)).toBe(86_400_000);
  expect(dropMs(5_000, 1_000_000)).toBe(1_600_000);
});
