/** Verdict: what a chaos run must keep, checked on what clients received, what the books say and what is left. Pure. */
import type { LedgerRow } from '../../gpu-worker/books.ts';
import { type Books, type Reconciliation, reconcile } from '../../gpu-worker/reconcile.ts';
import { compare, type Received } from './answer.ts';
import type { Outcome, Try } from './client.ts';

/** The grant, the ledger's margin, one more minute where the queue did not answer when it was asked, and the alarm's lateness. */
const LONGEST_RELEASE_MS = 30_000 + 5_000 + 60_000 + 15_000;
const SHOWN = 40;

export interface Balance {
  accountId: string;
  creditPico: bigint;
  spentPico: bigint;
  reservedPico: bigint;
}

export interface Evidence {
  outcomes: readonly Outcome[];
  /** By script: the same request with nothing broken. */
  undisturbed: readonly Received[];
  books: Omit<Books, 'ledger'> & { ledger: readonly LedgerRow[] };
  /** Every account as it was seen, in between and at the end. */
  balances: readonly Balance[];
  lastBalances: readonly Balance[];
}

export interface Verdict {
  finished: number;
  left: number;
  failed: number;
  lost_tokens: number;
  duplicated_tokens: number;
  text_mismatches: number;
  broken_responses: number;
  ledger_mismatches: number;
  jobs_left: number;
  reservations_left: number;
  reservations_outliving: number;
  negative_balances: number;
  jobs_never_seen_in_queue: number;
  divergent_tokens: number;
  ledger_rows: number;
  released_rows: number;
  ledger_tokens: number;
  accepted_tokens: number;
  journal_tokens: number;
  unaccepted_tokens: number;
  unaccepted_leases: number;
  tries: number;
  resumed_streams: number;
  /** That clients received of answers that did not finish, and that were on no disk when their queue crashed: nobody pays for them. */
  received_and_not_booked: number;
  /** What tries ended with that were refused or failed by name. */
  failures: Record<string, number>;
  /** The first of what is wrong, in words. */
  wrong: string[];
}

export function verdictOf({ outcomes, undisturbed, books, balances, lastBalances }: Evidence): Verdict {
  const wrong: string[] = [];
  const texts = { lost: 0, duplicated: 0, mismatches: 0, broken: 0 };
  const failures: Record<string, number> = {};
  const rows = new Map(books.ledger.map((row) => [row.jobId, row]));
  let ledgerMismatches = 0;
  const blame = (reason: string) => {
    ledgerMismatches += 1;
    wrong.push(reason);
  };
  for (const outcome of outcomes) {
    const expected = undisturbed[outcome.asked.script]!;
    for (const made of outcome.tries) {
      const { end } = made.received;
      const name = `request ${outcome.asked.index} (${outcome.asked.behaviour.kind})`;
      if (end.kind === 'failed') failures[end.code] = (failures[end.code] ?? 0) + 1;
      if (end.kind === 'cut' && !made.dropped) {
        texts.broken += 1;
        wrong.push(`${name}: a response without an end: ${end.reason}`);
      }
      const differs = againstText(expected, made.received);
      if (differs !== null) {
        texts.mismatches += 1;
        texts.lost += differs.lost;
        texts.duplicated += differs.duplicated;
        wrong.push(`${name}: job ${made.jobId}: ${differs.reason}`);
      }
      const reason = againstLedger(made, outcome, expected, rows);
      if (reason !== null) blame(`${name}: ${reason}`);
    }
  }
  for (const [key, jobs] of jobsByKey(outcomes)) {
    // What failed and cost nothing does not hold its key.
    const paid = [...jobs].filter((job) => (rows.get(job)?.costPico ?? '0') !== '0');
    if (paid.length > 1) blame(`the key ${key} was paid ${paid.length} times: ${paid.join(', ')}`);
  }
  const compared = reconcile(books);
  for (const { job, between, reason } of compared.differences) blame(`job ${job}: ${between}: ${reason}`);
  for (const reason of moneyOf(lastBalances, books.ledger)) blame(reason);
  const negative = [...balances, ...lastBalances].filter(
    ({ creditPico, spentPico, reservedPico }) => creditPico - spentPico - reservedPico < 0n || reservedPico < 0n,
  );
  const released = books.ledger.filter(({ status }) => status === 'released');
  const seen = new Set(books.queue.map(({ jobId }) => jobId));
  const unseen = books.ledger.filter(({ status, jobId }) => status !== 'released' && !seen.has(jobId));
  const late = released.filter(({ createdMs, settledMs }) => settledMs - createdMs > LONGEST_RELEASE_MS);
  for (const { jobId } of unseen) wrong.push(`job ${jobId} is booked and was never seen in its queue`);
  for (const { jobId, createdMs, settledMs } of late)
    wrong.push(`the reservation of job ${jobId} was released after ${settledMs - createdMs} ms`);
  const of = (kind: Outcome['kind']) => outcomes.filter((outcome) => outcome.kind === kind).length;
  return {
    finished: of('finished'),
    left: of('left'),
    failed: of('failed'),
    lost_tokens: texts.lost,
    duplicated_tokens: texts.duplicated,
    text_mismatches: texts.mismatches,
    broken_responses: texts.broken,
    ledger_mismatches: ledgerMismatches,
    jobs_left: compared.liveJobs,
    reservations_left: books.reserved.size,
    reservations_outliving: late.length,
    negative_balances: negative.length,
    jobs_never_seen_in_queue: unseen.length,
    ...sumsOf(compared),
    released_rows: released.length,
    tries: outcomes.reduce((sum, { tries }) => sum + tries.length, 0),
    resumed_streams: outcomes.flatMap(({ tries }) => tries).filter(({ resumed }) => resumed).length,
    received_and_not_booked: notBooked(outcomes, rows),
    failures,
    wrong: wrong.slice(0, SHOWN),
  };
}

/** What must be zero, and what must be equal. */
export function holds(verdict: Verdict): boolean {
  const zero = [
    verdict.failed,
    verdict.lost_tokens,
    verdict.duplicated_tokens,
    verdict.text_mismatches,
    verdict.broken_responses,
    verdict.ledger_mismatches,
    verdict.jobs_left,
    verdict.reservations_left,
    verdict.reservations_outliving,
    verdict.negative_balances,
    verdict.jobs_never_seen_in_queue,
    verdict.divergent_tokens,
  ];
  return zero.every((count) => count === 0) && verdict.ledger_tokens === verdict.accepted_tokens;
}

function sumsOf(compared: Reconciliation) {
  return {
    divergent_tokens: compared.divergentTokens,
    ledger_rows: compared.ledgerRows,
    ledger_tokens: compared.ledgerTokens,
    accepted_tokens: compared.acceptedTokens,
    journal_tokens: compared.journalTokens,
    unaccepted_tokens: compared.unaccepted.reduce((sum, { tokens }) => sum + tokens, 0),
    unaccepted_leases: compared.unaccepted.length,
  };
}

/** A finished answer is the undisturbed one; any other is its beginning. */
function againstText(expected: Received, got: Received): { lost: number; duplicated: number; reason: string } | null {
  if (got.end.kind === 'finished') {
    const { lost, duplicated } = compare(expected.pieces, got.pieces);
    const same =
      got.text === expected.text &&
      got.finishReason === expected.finishReason &&
      got.completionTokens === expected.completionTokens;
    if (lost === 0 && duplicated === 0 && same) return null;
    return { lost, duplicated, reason: `${summary(got)} instead of ${summary(expected)}` };
  }
  const beginning = expected.pieces.slice(0, got.pieces.length);
  const { lost, duplicated } = compare(beginning, got.pieces);
  if (lost === 0 && duplicated === 0 && expected.text.startsWith(got.text)) return null;
  return { lost, duplicated, reason: `${summary(got)} does not begin ${summary(expected)}` };
}

function summary({ text, pieces, finishReason, completionTokens }: Received): string {
  return `${JSON.stringify(text.slice(0, 120))} (${pieces.length} pieces, ${completionTokens} tokens, ${finishReason})`;
}

function againstLedger(
  { jobId, received, dropped, key }: Try,
  { kind, tries }: Outcome,
  expected: Received,
  rows: ReadonlyMap<string, LedgerRow>,
): string | null {
  if (jobId === null) return null;
  const row = rows.get(jobId);
  if (row === undefined) return `job ${jobId} was admitted and has no row`;
  const booked = `job ${jobId} is booked as ${row.status} with ${row.completionTokens} tokens`;
  if (received.end.kind === 'finished')
    return row.status === 'completed' && row.completionTokens === received.completionTokens
      ? null
      : `${booked}; the client was told ${received.completionTokens}`;
  // Fewer than the client saw are booked where the queue crashed before it had them on disk and the job then ended otherwise; never more.
  if (row.completionTokens > (expected.completionTokens ?? 0))
    return `${booked}; the whole answer has ${expected.completionTokens}`;
  if (row.status === 'released') return `${booked}; the client had an answer`;
  // With a key and nobody there to read it, a job runs to its end.
  const abandoned = kind === 'left' && dropped && key !== null && tries.length === 1;
  if (abandoned && (row.status !== 'completed' || row.completionTokens !== expected.completionTokens))
    return `${booked}; it was abandoned under a key and should have run to ${expected.completionTokens}`;
  return null;
}

function notBooked(outcomes: readonly Outcome[], rows: ReadonlyMap<string, LedgerRow>): number {
  const most = new Map<string, number>();
  for (const { jobId, received } of outcomes.flatMap(({ tries }) => tries))
    if (jobId !== null && received.end.kind !== 'finished')
      most.set(jobId, Math.max(most.get(jobId) ?? 0, received.pieces.length));
  let tokens = 0;
  for (const [jobId, pieces] of most) tokens += Math.max(0, pieces - (rows.get(jobId)?.completionTokens ?? 0));
  return tokens;
}

function jobsByKey(outcomes: readonly Outcome[]): Map<string, Set<string>> {
  const jobs = new Map<string, Set<string>>();
  for (const { tries } of outcomes)
    for (const { key, jobId } of tries) {
      if (key === null || jobId === null) continue;
      jobs.set(key, (jobs.get(key) ?? new Set()).add(jobId));
    }
  return jobs;
}

/** An account has spent what its rows cost. */
function moneyOf(balances: readonly Balance[], ledger: readonly LedgerRow[]): string[] {
  return balances.flatMap(({ accountId, spentPico }) => {
    const cost = ledger.reduce((sum, row) => (row.accountId === accountId ? sum + BigInt(row.costPico) : sum), 0n);
    return cost === spentPico
      ? []
      : [`account ${accountId} has spent ${spentPico} pico-USD, and its rows cost ${cost}`];
  });
}
