/** Reconcile: compares what workers produced, what queues accepted, what ledgers booked and what was exported, job by job. Pure. */

/** A row of a ledger or of its export. */
export interface BookedRow {
  accountId: string;
  seq: number;
  jobId: string;
  status: string;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  costPico: string;
  backend: string | null;
}

/** A job that its queue still keeps. */
export interface KeptJob {
  jobId: string;
  status: string;
  acceptedTokens: number;
  /** Null while it lives. */
  billed: { promptTokens: number; cachedTokens: number; completionTokens: number } | null;
}

/** A run of positions of one job that a worker produced under one lease. */
export interface Work {
  jobId: string;
  epoch: number;
  from: number;
  ids: readonly number[];
}

export interface Books {
  ledger: readonly BookedRow[];
  /** Jobs that are admitted and not ended. */
  reserved: ReadonlySet<string>;
  queue: readonly KeptJob[];
  exported: readonly BookedRow[];
  /** Null: no journal is compared. */
  journal: readonly Work[] | null;
}

export interface Difference {
  job: string;
  between: 'ledger' | 'ledger and queue' | 'ledger and export' | 'ledger and journal' | 'queue';
  reason: string;
}

export interface Reconciliation {
  jobs: number;
  ledgerRows: number;
  exportRows: number;
  queueJobs: number;
  /** Jobs that live, by the queue or by their reservation. */
  liveJobs: number;
  ledgerTokens: number;
  /** Of the jobs that the queues still keep and that ended. */
  acceptedTokens: number;
  /** What ledgers booked for those same jobs. */
  ledgerTokensOfKept: number;
  /** Distinct (job, position) pairs in the journals. */
  journalTokens: number;
  /** Produced and not accepted: of a lost lease, or after the end. Nobody pays for it. */
  unaccepted: { job: string; epoch: number; tokens: number }[];
  /** Positions that two leases filled with different tokens: only where backends differ. */
  divergentTokens: number;
  differences: Difference[];
}

export function reconcile(books: Books): Reconciliation {
  const differences: Difference[] = [];
  const rows = Map.groupBy(books.ledger, ({ jobId }) => jobId);
  const kept = new Map(books.queue.map((job) => [job.jobId, job]));
  for (const [job, { length }] of rows)
    if (length > 1) differences.push({ job, between: 'ledger', reason: `has ${length} rows` });
  for (const job of rows.keys())
    if (books.reserved.has(job))
      differences.push({ job, between: 'ledger', reason: 'has a row and an open reservation' });
  const ended = books.queue.filter(({ billed }) => billed !== null);
  for (const job of ended) differences.push(...againstQueue(job, rows.get(job.jobId)?.[0] ?? null, books.reserved));
  for (const { jobId } of books.queue.filter(({ billed }) => billed === null))
    if (rows.has(jobId)) differences.push({ job: jobId, between: 'ledger and queue', reason: 'is booked and lives' });
  differences.push(...againstExport(books.ledger, books.exported));
  const work = books.journal === null ? null : againstJournal(books.journal, books.ledger, books.reserved, kept);
  const live = new Set([
    ...books.reserved,
    ...books.queue.filter(({ billed }) => billed === null).map(({ jobId }) => jobId),
  ]);
  const tokens = (of: readonly BookedRow[]) => of.reduce((sum, row) => sum + row.completionTokens, 0);
  return {
    jobs: new Set([...rows.keys(), ...kept.keys(), ...books.reserved]).size,
    ledgerRows: books.ledger.length,
    exportRows: books.exported.length,
    queueJobs: books.queue.length,
    liveJobs: live.size,
    ledgerTokens: tokens(books.ledger),
    acceptedTokens: ended.reduce((sum, job) => sum + job.acceptedTokens, 0),
    ledgerTokensOfKept: tokens(books.ledger.filter(({ jobId }) => kept.get(jobId)?.billed != null)),
    journalTokens: work?.distinctTokens ?? 0,
    unaccepted: work?.unaccepted ?? [],
    divergentTokens: work?.divergentTokens ?? 0,
    differences: [...differences, ...(work?.differences ?? [])],
  };
}

const FIELDS = ['promptTokens', 'cachedTokens', 'completionTokens'] as const;

/** An ended job: its row says what the queue billed, and the queue billed what it accepted; or nothing of a failure that is free. */
function againstQueue(
  { jobId: job, billed, acceptedTokens, status }: KeptJob,
  row: BookedRow | null,
  reserved: ReadonlySet<string>,
): Difference[] {
  if (row === null)
    return [
      {
        job,
        between: 'ledger and queue',
        reason: reserved.has(job) ? 'ended in the queue and is not settled yet' : 'ended in the queue and has no row',
      },
    ];
  const differences: Difference[] = [];
  for (const field of FIELDS)
    if (row[field] !== billed![field])
      differences.push({
        job,
        between: 'ledger and queue',
        reason: `${field}: ${row[field]} in the ledger, ${billed![field]} in the queue`,
      });
  const free = status === 'failed' && FIELDS.every((field) => billed![field] === 0);
  if (billed!.completionTokens !== acceptedTokens && !free)
    differences.push({
      job,
      between: 'queue',
      reason: `billed ${billed!.completionTokens} tokens of ${acceptedTokens} accepted positions`,
    });
  return differences;
}

function againstExport(ledger: readonly BookedRow[], exported: readonly BookedRow[]): Difference[] {
  const place = ({ accountId, seq }: BookedRow) => `${accountId} ${seq}`;
  const copies = new Map(exported.map((row) => [place(row), row]));
  const differences: Difference[] = [];
  for (const row of ledger) {
    const copy = copies.get(place(row));
    copies.delete(place(row));
    const between = 'ledger and export' as const;
    if (copy === undefined) differences.push({ job: row.jobId, between, reason: 'is not in the export, or not yet' });
    else
      for (const field of ['jobId', 'status', ...FIELDS, 'costPico'] as const)
        if (row[field] !== copy[field])
          differences.push({
            job: row.jobId,
            between,
            reason: `${field}: ${row[field]} in the ledger, ${copy[field]} in the export`,
          });
  }
  for (const copy of copies.values())
    differences.push({ job: copy.jobId, between: 'ledger and export', reason: 'is in the export alone' });
  return differences;
}

/** The edge's own fallback keeps no journal. */
const FALLBACK_BACKEND = 'edge-wasm';

/** Every booked position was produced by a worker. What was produced beside that is listed by lease. */
function againstJournal(
  journal: readonly Work[],
  ledger: readonly BookedRow[],
  reserved: ReadonlySet<string>,
  kept: ReadonlyMap<string, KeptJob>,
) {
  const byJob = Map.groupBy(journal, ({ jobId }) => jobId);
  const booked = new Map(ledger.map((row) => [row.jobId, row.completionTokens]));
  const differences: Difference[] = [];
  const unaccepted: Reconciliation['unaccepted'] = [];
  let distinctTokens = 0;
  let divergentTokens = 0;
  for (const [job, works] of byJob) {
    const accepted = booked.get(job) ?? null;
    // The end of a job is not known before its row is there.
    const live = accepted === null && (reserved.has(job) || kept.get(job)?.billed === null);
    if (accepted === null && !live)
      differences.push({ job, between: 'ledger and journal', reason: 'was worked on and has no row' });
    const ids = new Map<number, number>();
    const extra = new Map<number, number>();
    for (const { epoch, from, ids: produced } of works)
      for (const [offset, id] of produced.entries()) {
        const position = from + offset;
        const earlier = ids.get(position);
        if (earlier === undefined) ids.set(position, id);
        else if (earlier !== id) divergentTokens += 1;
        if (!live && (earlier !== undefined || position >= (accepted ?? 0)))
          extra.set(epoch, (extra.get(epoch) ?? 0) + 1);
      }
    distinctTokens += ids.size;
    for (const [epoch, tokens] of extra) unaccepted.push({ job, epoch, tokens });
  }
  for (const { jobId: job, completionTokens: tokens, backend } of ledger) {
    if (backend === FALLBACK_BACKEND) continue;
    const positions = new Set(byJob.get(job)?.flatMap(({ from, ids }) => ids.map((_, offset) => from + offset)) ?? []);
    let missing = 0;
    for (let position = 0; position < tokens; position++) if (!positions.has(position)) missing += 1;
    if (missing > 0)
      differences.push({
        job,
        between: 'ledger and journal',
        reason: `${missing} of ${tokens} booked positions are in no journal`,
      });
  }
  return { distinctTokens, divergentTokens, unaccepted, differences };
}
