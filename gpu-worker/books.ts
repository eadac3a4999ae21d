/** Books: everything that a reconciliation compares, read page by page from an edge's admin API and from journals. */
import { readJournal } from './journal.ts';
import type { BookedRow, Books, KeptJob, Work } from './reconcile.ts';

/** A GET of the admin API: the path after /admin, and its answer. */
// biome-ignore lint/suspicious/noExplicitAny: the edge that answers may be newer than this program.
export type Ask = (path: string) => Promise<any>;

export interface Reservation {
  request_id: string;
  reserved_pico_usd: string;
  created_ms: number;
  check_ms: number;
}

/** An account's ledger row beside what its books say. */
export type LedgerRow = BookedRow & { model: string; createdMs: number; settledMs: number };

export async function readBooks(ask: Ask, journals: readonly string[]): Promise<Books & { models: string[] }> {
  const ledger: LedgerRow[] = [];
  const exported: BookedRow[] = [];
  const reserved = new Set<string>();
  for (const accountId of await accountIds(ask)) {
    const account = await readLedger(ask, accountId);
    ledger.push(...account.rows);
    for (const { request_id } of account.reservations) reserved.add(request_id);
    exported.push(...(await readExport(ask, accountId)));
  }
  const models = [...new Set(ledger.map(({ model }) => model))];
  const queue = (await Promise.all(models.map((model) => readQueue(ask, model)))).flat();
  return { ledger, exported, reserved, queue, models, journal: await readJournals(journals) };
}

export async function readLedger(
  ask: Ask,
  accountId: string,
): Promise<{ rows: LedgerRow[]; reservations: Reservation[] }> {
  let reservations: Reservation[] = [];
  const rows = await pages(`/accounts/${accountId}/ledger`, async (path) => {
    const page = await ask(path);
    reservations = page.reservations;
    return page;
  });
  return { rows: rows.map((row) => bookedRow(accountId, row)), reservations };
}

export async function readExport(ask: Ask, accountId: string): Promise<BookedRow[]> {
  const rows = await pages(`/accounts/${accountId}/export`, ask);
  return rows.map((row) => bookedRow(accountId, row));
}

/** The jobs that all shards of a model's queue keep. */
export async function readQueue(ask: Ask, model: string): Promise<KeptJob[]> {
  const rows = [];
  let shards = 1;
  for (let shard = 0; shard < shards; shard++) {
    const found = await pages(`/jobs?model=${encodeURIComponent(model)}&shard=${shard}`, async (path) => {
      const page = await ask(path);
      shards = page.shards;
      return page;
    });
    rows.push(...found);
  }
  return rows.map(({ id, status, accepted_tokens, billed }) => ({
    jobId: id,
    status,
    acceptedTokens: accepted_tokens,
    billed:
      billed === null
        ? null
        : {
            promptTokens: billed.prompt_tokens,
            cachedTokens: billed.cached_tokens,
            completionTokens: billed.completion_tokens,
          },
  }));
}

export async function readJournals(paths: readonly string[]): Promise<Work[] | null> {
  if (paths.length === 0) return null;
  const work: Work[] = [];
  for (const path of paths)
    for await (const { job, epoch, from, ids } of readJournal(path)) work.push({ jobId: job, epoch, from, ids });
  return work;
}

async function accountIds(ask: Ask): Promise<string[]> {
  const ids: string[] = [];
  for (let more = true; more; ) {
    const after = ids.length === 0 ? '' : `&after=${ids.at(-1)}`;
    const page = await ask(`/accounts?limit=1000${after}`);
    ids.push(...page.data.map(({ id }: { id: string }) => id));
    more = page.has_more;
  }
  return ids;
}

/** Every row of a book, in its order. */
// biome-ignore lint/suspicious/noExplicitAny: as Ask.
async function pages(path: string, ask: Ask): Promise<any[]> {
  // biome-ignore lint/suspicious/noExplicitAny: as Ask.
  const rows: any[] = [];
  for (let more = true; more; ) {
    const page = await ask(`${path}${path.includes('?') ? '&' : '?'}after=${rows.at(-1)?.seq ?? 0}`);
    rows.push(...page.data);
    more = page.has_more;
  }
  return rows;
}

// biome-ignore lint/suspicious/noExplicitAny: as Ask.
function bookedRow(accountId: string, row: any): LedgerRow {
  return {
    accountId,
    seq: row.seq,
    jobId: row.request_id,
    model: row.model,
    status: row.status,
    promptTokens: row.prompt_tokens,
    cachedTokens: row.cached_tokens,
    completionTokens: row.completion_tokens,
    costPico: row.cost_pico_usd,
    backend: row.backend,
    createdMs: row.created_ms,
    settledMs: row.settled_ms,
  };
}
