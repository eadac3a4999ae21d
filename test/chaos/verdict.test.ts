/** Verdict: a chaos run in which anything went wrong does not pass. Each case spoils one thing of a run that was right. */
import { expect, test } from 'vitest';
import type { LedgerRow } from '../../gpu-worker/books.ts';
import { compare, nothing, type Received } from '../../scripts/chaos/answer.ts';
import type { Outcome, Try } from '../../scripts/chaos/client.ts';
import { type Evidence, holds, type Verdict, verdictOf } from '../../scripts/chaos/verdict.ts';

const answer: Received = {
  pieces: ['a', 'b', 'c'],
  text: 'abc',
  finishReason: 'length',
  completionTokens: 3,
  lastEventId: '3',
  end: { kind: 'finished' },
};
const row = (jobId: string, seq: number, completionTokens: number, more: Partial<LedgerRow> = {}): LedgerRow => ({
  ...{
    accountId: 'a',
    seq,
    jobId,
    model: 'm',
    status: 'completed',
    promptTokens: 2,
    cachedTokens: 0,
    completionTokens,
  },
  ...{ costPico: '10', backend: 'wasm', createdMs: 0, settledMs: 1000, ...more },
});
const made = (jobId: string, received: Received, more: Partial<Try> = {}): Try => ({
  ...{ key: null, jobId, status: 200, received, dropped: false, resumed: false, ...more },
});
const outcome = (index: number, kind: Outcome['kind'], ...tries: Try[]): Outcome => ({
  asked: { index, script: 0, behaviour: { kind: 'stay' }, key: `k${index}` },
  ...{ tries, kind },
});
const partOf = (pieces: string[]): Received => ({ ...nothing(), pieces, text: pieces.join('') });
const kept = (jobId: string, acceptedTokens: number, status = 'completed') => ({
  ...{ jobId, status, acceptedTokens },
  billed: { promptTokens: 2, cachedTokens: 0, completionTokens: acceptedTokens },
});

/** One client that stayed, one that left after two tokens, one that left its job to run under a key. */
function right() {
  const ledger = [row('one', 1, 3), row('two', 2, 2, { status: 'cancelled' }), row('three', 3, 3)];
  const balance = { accountId: 'a', creditPico: 100n, spentPico: 30n, reservedPico: 0n };
  return {
    outcomes: [
      outcome(0, 'finished', made('one', answer)),
      outcome(1, 'left', made('two', partOf(['a', 'b']), { dropped: true })),
      outcome(2, 'left', made('three', partOf(['a']), { dropped: true, key: 'k2' })),
    ],
    undisturbed: [answer],
    books: {
      ledger,
      reserved: new Set<string>(),
      queue: [kept('one', 3), kept('two', 2, 'failed'), kept('three', 3)],
      exported: ledger,
      journal: ledger.map(({ jobId }) => ({ jobId, epoch: 1, from: 0, ids: [1, 2, 3] })),
    },
    balances: [balance],
    lastBalances: [balance],
  } satisfies Evidence;
}
type Right = ReturnType<typeof right>;

test('a run that was right passes', () => {
  const verdict = verdictOf(right());
  expect(verdict.wrong).toEqual([]);
  expect(holds(verdict)).toBe(true);
  expect(verdict).toMatchObject({ finished: 1, left: 2, ledger_tokens: 8, accepted_tokens: 8, unaccepted_tokens: 1 });
});

const spoil: [string, (evidence: Right) => void, Partial<Verdict>][] = [
  ['a lost token', ({ outcomes }) => again(outcomes, ['a', 'c']), { lost_tokens: 1, text_mismatches: 1 }],
  [
    'a repeated token',
    ({ outcomes }) => again(outcomes, ['a', 'b', 'b', 'c']),
    { duplicated_tokens: 1, text_mismatches: 1 },
  ],
  [
    'another token',
    ({ outcomes }) => again(outcomes, ['a', 'x', 'c']),
    { lost_tokens: 1, duplicated_tokens: 1, text_mismatches: 1 },
  ],
  [
    'a beginning that is none',
    ({ outcomes }) => Object.assign(outcomes[1]!.tries[0]!, { received: partOf(['a', 'c']) }),
    { text_mismatches: 1 },
  ],
  [
    'another count in the usage of the answer',
    ({ outcomes }) => Object.assign(outcomes[0]!.tries[0]!, { received: { ...answer, completionTokens: 4 } }),
    { text_mismatches: 1, ledger_mismatches: 1 },
  ],
  [
    'a response that just stops',
    ({ outcomes }) => Object.assign(outcomes[1]!.tries[0]!, { dropped: false }),
    { broken_responses: 1 },
  ],
  ['a client that gave up', ({ outcomes }) => Object.assign(outcomes[1]!, { kind: 'failed' }), { failed: 1 }],
  [
    'a job without a row',
    ({ books }) => Object.assign(books, { ledger: books.ledger.slice(1), exported: books.ledger.slice(1) }),
    // For its client, for its queue, for its workers, and for what its account spent.
    { ledger_mismatches: 4 },
  ],
  [
    'an answer that is booked as a failure',
    ({ books }) => Object.assign(books.ledger[0]!, { status: 'failed' }),
    { ledger_mismatches: 1 },
  ],
  [
    'a job that was abandoned under a key and did not run to its end',
    ({ books }) => Object.assign(books.ledger[2]!, { status: 'cancelled' }),
    { ledger_mismatches: 1 },
  ],
  [
    'a key that is paid twice',
    ({ outcomes }) => Object.assign(outcomes[0]!.tries[0]!, { key: 'k2' }),
    { ledger_mismatches: 1 },
  ],
  [
    'an account that spent more than its rows cost',
    ({ lastBalances }) => Object.assign(lastBalances[0]!, { spentPico: 31n }),
    { ledger_mismatches: 1 },
  ],
  [
    'a balance below zero in between',
    ({ balances, lastBalances }) => {
      lastBalances[0] = { ...balances[0]! };
      balances[0]!.reservedPico = 71n;
    },
    { negative_balances: 1 },
  ],
  ['a reservation that stays', ({ books }) => books.reserved.add('four'), { reservations_left: 1, jobs_left: 1 }],
  [
    'a reservation that was released too late',
    ({ books }) => {
      const late = row('four', 4, 0, { status: 'released', promptTokens: 0, costPico: '0', settledMs: 111_000 });
      books.ledger.push(late);
    },
    { reservations_outliving: 1 },
  ],
  [
    'a job that lives on',
    ({ books }) =>
      Object.assign(books, {
        queue: [...books.queue, { jobId: 'four', status: 'leased', acceptedTokens: 0, billed: null }],
      }),
    { jobs_left: 1 },
  ],
  ['a job that no queue had', ({ books }) => books.queue.pop(), { jobs_never_seen_in_queue: 1 }],
  [
    'two workers that disagree about a token',
    ({ books }) => books.journal.push({ jobId: 'one', epoch: 2, from: 1, ids: [9] }),
    { divergent_tokens: 1 },
  ],
  [
    'a token that the queue accepted and nobody booked',
    ({ books }) => Object.assign(books.queue[0]!, { acceptedTokens: 4 }),
    { accepted_tokens: 9, ledger_mismatches: 1 },
  ],
];

test.each(spoil)('%s does not pass', (_, change, expected) => {
  const evidence = right();
  change(evidence);
  const verdict = verdictOf(evidence);
  expect(verdict).toMatchObject(expected);
  expect(
    verdict.wrong.length + verdict.jobs_left + verdict.negative_balances + verdict.failed + verdict.divergent_tokens,
  ).toBeGreaterThan(0);
  expect(holds(verdict)).toBe(false);
});

/** The first client received these pieces and the end. */
function again(outcomes: Outcome[], pieces: string[]): void {
  outcomes[0]!.tries[0]!.received = { ...answer, pieces, text: pieces.join('') };
}

test('pieces are compared by what is missing and what is too many, wherever it is', () => {
  expect(compare(['a', 'b', 'c'], ['a', 'b', 'c'])).toEqual({ lost: 0, duplicated: 0 });
  expect(compare(['a', 'b', 'c'], [])).toEqual({ lost: 3, duplicated: 0 });
  expect(compare([], ['a'])).toEqual({ lost: 0, duplicated: 1 });
  expect(compare(['a', 'b', 'c', 'd'], ['a', 'c', 'd', 'd', 'e'])).toEqual({ lost: 1, duplicated: 2 });
});
