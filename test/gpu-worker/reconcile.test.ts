/** Reconcile: every kind of difference is found in its job, and work that nobody pays for is not one. */
import { describe, expect, test } from 'vitest';
import { type BookedRow, type Books, reconcile, type Work } from '../../gpu-worker/reconcile.ts';

const row = (jobId: string, seq: number, completionTokens: number, more: Partial<BookedRow> = {}): BookedRow => ({
  accountId: 'a',
  seq,
  jobId,
  status: 'completed',
  promptTokens: 3,
  cachedTokens: 0,
  completionTokens,
  costPico: String(9 + 5 * completionTokens),
  backend: 'wasm',
  ...more,
});
const kept = (jobId: string, acceptedTokens: number, completionTokens = acceptedTokens, status = 'completed') => ({
  jobId,
  status,
  acceptedTokens,
  billed: { promptTokens: 3, cachedTokens: 0, completionTokens },
});
const work = (jobId: string, epoch: number, from: number, ...ids: number[]): Work => ({ jobId, epoch, from, ids });

/** Two jobs, one of which changed its worker after two tokens. */
function agreeing(): Books {
  const ledger = [row('one', 1, 3), row('two', 2, 4)];
  return {
    ledger,
    reserved: new Set(),
    queue: [kept('one', 3), kept('two', 4)],
    exported: ledger.map((entry) => ({ ...entry })),
    journal: [
      work('one', 1, 0, 7, 8, 9),
      work('two', 1, 0, 1, 2),
      work('two', 1, 2, 3),
      work('two', 2, 2, 3, 4),
      work('two', 2, 4, 5),
    ],
  };
}
const differencesOf = (changed: Partial<Books>) =>
  reconcile({ ...agreeing(), ...changed }).differences.map(
    ({ job, between, reason }) => `${job}: ${between}: ${reason}`,
  );

test('books that agree have no difference; what was produced twice or past the end is listed apart, by lease', () => {
  const found = reconcile(agreeing());
  expect(found).toMatchObject({
    jobs: 2,
    ledgerTokens: 7,
    acceptedTokens: 7,
    ledgerTokensOfKept: 7,
    journalTokens: 8,
    divergentTokens: 0,
    liveJobs: 0,
    differences: [],
  });
  expect(found.unaccepted).toEqual([{ job: 'two', epoch: 2, tokens: 2 }]);
});

test('two leases that produced different tokens for one position are counted', () => {
  const journal = [...agreeing().journal!, work('one', 2, 1, 8, 10)];
  expect(reconcile({ ...agreeing(), journal }).divergentTokens).toBe(1);
});

describe('a difference is found and named:', () => {
  const { ledger, queue, exported, journal } = agreeing();
  test.each<[string, Partial<Books>, string[]]>([
    [
      'a job that is booked twice',
      { ledger: [...ledger, row('one', 3, 3)], exported: [...exported, row('one', 3, 3)] },
      ['one: ledger: has 2 rows'],
    ],
    [
      'a row and a reservation of the same job',
      { reserved: new Set(['one']) },
      ['one: ledger: has a row and an open reservation'],
    ],
    [
      'another count in the ledger than in the queue',
      { queue: [kept('one', 2), queue[1]!] },
      ['one: ledger and queue: completionTokens: 3 in the ledger, 2 in the queue'],
    ],
    [
      'a queue that billed what it did not accept',
      { queue: [kept('one', 2, 3), queue[1]!] },
      ['one: queue: billed 3 tokens of 2 accepted positions'],
    ],
    [
      'an ended job without a row',
      { ledger: [ledger[1]!], exported: [exported[1]!], journal: journal!.slice(1) },
      ['one: ledger and queue: ended in the queue and has no row'],
    ],
    [
      'a job that is booked while it lives',
      { queue: [{ ...kept('one', 3), status: 'leased', billed: null }, queue[1]!] },
      ['one: ledger and queue: is booked and lives'],
    ],
    [
      'a row that was not exported',
      { exported: [exported[0]!] },
      ['two: ledger and export: is not in the export, or not yet'],
    ],
    [
      'a row that was exported with another cost',
      { exported: [exported[0]!, { ...exported[1]!, costPico: '1' }] },
      ['two: ledger and export: costPico: 29 in the ledger, 1 in the export'],
    ],
    [
      'a row of the export alone',
      { exported: [...exported, row('ghost', 9, 1)] },
      ['ghost: ledger and export: is in the export alone'],
    ],
    [
      'booked positions that nobody produced',
      { journal: journal!.slice(1) },
      ['one: ledger and journal: 3 of 3 booked positions are in no journal'],
    ],
    [
      'work for a job that nobody knows',
      { journal: [...journal!, work('ghost', 1, 0, 1)] },
      ['ghost: ledger and journal: was worked on and has no row'],
    ],
  ])('%s', (_, changed, expected) => {
    expect(differencesOf(changed)).toEqual(expected);
  });
});

describe('no difference is', () => {
  test('a live job with its work', () => {
    const queue = [...agreeing().queue, { jobId: 'live', status: 'leased', acceptedTokens: 0, billed: null }];
    const changed = { queue, reserved: new Set(['live']), journal: [...agreeing().journal!, work('live', 1, 0, 1)] };
    expect(differencesOf(changed)).toEqual([]);
    expect(reconcile({ ...agreeing(), ...changed }).liveJobs).toBe(1);
  });

  test('a failure that is free, with what was accepted of it', () => {
    const free = row('free', 3, 0, { status: 'failed', promptTokens: 0, costPico: '0' });
    const { ledger, exported, queue } = agreeing();
    const job = { ...kept('free', 2, 0, 'failed'), billed: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 } };
    expect(differencesOf({ ledger: [...ledger, free], exported: [...exported, free], queue: [...queue, job] })).toEqual(
      [],
    );
  });

  test('an answer of the edge’s own fallback, which keeps no journal', () => {
    const { ledger, exported, queue, journal } = agreeing();
    const own = row('own', 3, 5, { backend: 'edge-wasm' });
    expect(
      differencesOf({
        ledger: [...ledger, own],
        exported: [...exported, own],
        queue: [...queue, kept('own', 5)],
        journal,
      }),
    ).toEqual([]);
  });

  test('a comparison without journals', () => {
    expect(differencesOf({ journal: null })).toEqual([]);
  });
});
