/** Usage query: the ledger's rows, one by one or summed in buckets of time. Amounts are summed in two halves, which doubles hold exactly. */
import type { BucketQuery, BucketRow, RowQuery, UsageRow } from '../api/accounts.ts';
import { exactNumber } from './price.ts';
import type { Entry, EntryStatus, Row } from './storage.ts';

const HALF = 1_000_000_000;
/** Rows that no queue took are in the ledger and in no customer's usage. */
const BILLED = "status <> 'released'";
const COLUMNS = { account: 'account', key: 'key_id', model: 'model', user: 'user' } as const;
type Group = keyof typeof COLUMNS;

/** The sums of a table of entries, here or in the reporting copy, which has a column `account` too. */
export function bucketStatement(
  query: Omit<BucketQuery, 'groupBy'> & {
    groupBy: readonly Group[];
    accounts?: readonly string[] | null;
    where: readonly string[];
    bindings: readonly (string | number)[];
  },
): { sql: string; bindings: (string | number)[] } {
  const { originMs, widthMs, fromMs, toMs } = query;
  const groups = (['account', 'key', 'model', 'user'] as const).filter((name) => query.groupBy.includes(name));
  const grouped = ['bucket', ...groups.map((name) => COLUMNS[name])].join(', ');
  const where = [BILLED, ...query.where, 'created_ms >= ?', 'created_ms < ?'];
  const bindings = [originMs, widthMs, ...query.bindings, fromMs, toMs];
  const filters = [
    ['account', query.accounts ?? null],
    ['key_id', query.keyIds],
    ['model', query.models],
    ['user', query.users],
  ] as const;
  for (const [column, values] of filters) {
    if (values === null) continue;
    where.push(`${column} IN (SELECT value FROM json_each(?))`);
    bindings.push(JSON.stringify(values));
  }
  const sql = `SELECT (created_ms - CAST(? AS INTEGER)) / CAST(? AS INTEGER) AS bucket${groups.map((name) => `, ${COLUMNS[name]}`).join('')}, COUNT(*) AS requests,
    SUM(prompt_tokens) AS prompt, SUM(cached_tokens) AS cached, SUM(completion_tokens) AS completion,
    SUM(CAST(cost AS INTEGER) / ${HALF}) AS high, SUM(CAST(cost AS INTEGER) % ${HALF}) AS low
    FROM entry WHERE ${where.join(' AND ')} GROUP BY ${grouped} ORDER BY ${grouped}`;
  return { sql, bindings };
}

export function sumOf(row: Row): BucketRow {
  return {
    bucket: row.bucket as number,
    keyId: (row.key_id as string | undefined) ?? null,
    model: (row.model as string | undefined) ?? null,
    user: (row.user as string | null | undefined) ?? null,
    numRequests: row.requests as number,
    promptTokens: row.prompt as number,
    cachedTokens: row.cached as number,
    completionTokens: row.completion as number,
    costPico: BigInt(row.high as number) * BigInt(HALF) + BigInt(row.low as number),
  };
}

export class Ledger {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** Newest first. */
  rows({ limit, requestId, before, fromMs, toMs }: RowQuery): UsageRow[] {
    const where = [BILLED];
    const bindings: SqlStorageValue[] = [];
    const add = (condition: string, value: SqlStorageValue | null) => {
      if (value === null) return;
      where.push(condition);
      bindings.push(value);
    };
    add('job_id = ?', requestId);
    add('seq < ?', before);
    add('created_ms >= ?', fromMs);
    add('seq >= ?', fromMs === null ? null : this.#firstSettledFrom(fromMs));
    add('created_ms < ?', toMs);
    const query = `SELECT * FROM entry WHERE ${where.join(' AND ')} ORDER BY seq DESC LIMIT ?`;
    return this.#entries(query, ...bindings, limit).map((entry) => ({
      seq: entry.seq,
      requestId: entry.jobId,
      keyId: entry.keyId,
      user: entry.user,
      createdS: Math.floor(entry.createdMs / 1000),
      model: entry.model,
      usage: {
        promptTokens: entry.promptTokens,
        cachedTokens: entry.cachedTokens,
        completionTokens: entry.completionTokens,
        costPicoUsd: exactNumber(entry.costPico),
      },
      status: entry.status as UsageRow['status'],
      backend: entry.backend,
    }));
  }

  /** Every row that was appended after `seq`, oldest first: for exports. */
  after(seq: number, limit: number): Entry[] {
    return this.#entries('SELECT * FROM entry WHERE seq > ? ORDER BY seq LIMIT ?', seq, limit);
  }

  /** What was booked since a moment, the oldest first, row by row as it is read: a month of a busy account does not fit into memory. */
  *settledSince(fromMs: number): Iterable<Pick<Entry, 'keyId' | 'costPico' | 'settledMs'>> {
    const query = 'SELECT key_id, cost, settled_ms FROM entry WHERE seq >= ? ORDER BY seq';
    for (const row of this.#sql.exec<Row>(query, this.#firstSettledFrom(fromMs)))
      yield {
        keyId: row.key_id as string,
        costPico: BigInt(row.cost as string),
        settledMs: row.settled_ms as number,
      };
  }

  lastSeq(): number {
    return this.#sql.exec<{ seq: number | null }>('SELECT MAX(seq) AS seq FROM entry').one().seq ?? 0;
  }

  /** In the order of buckets, then of groups. A request belongs to the bucket in which it was admitted. */
  buckets(query: BucketQuery): BucketRow[] {
    const bounds = { where: ['seq >= ?'], bindings: [this.#firstSettledFrom(query.fromMs)] };
    const { sql, bindings } = bucketStatement({ ...query, ...bounds });
    return this.#sql
      .exec<Row>(sql, ...bindings)
      .toArray()
      .map(sumOf);
  }

  /**
   * The first row that was settled at `fromMs` or later. Rows are appended as they settle, so it is found by halving: an index by time
   * would cost every request a row written. What was admitted from then on was settled no earlier.
   */
  #firstSettledFrom(fromMs: number): number {
    let [low, high] = [1, this.lastSeq() + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      const row = this.#sql
        .exec<{ settled_ms: number }>('SELECT settled_ms FROM entry WHERE seq = ?', middle)
        .toArray()[0];
      if (row !== undefined && row.settled_ms < fromMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #entries(query: string, ...bindings: SqlStorageValue[]): Entry[] {
    return this.#sql
      .exec<Row>(query, ...bindings)
      .toArray()
      .map(entryOfRow);
  }
}

function entryOfRow(row: Row): Entry {
  return {
    seq: row.seq as number,
    jobId: row.job_id as string,
    keyId: row.key_id as string,
    user: row.user as string | null,
    createdMs: row.created_ms as number,
    settledMs: row.settled_ms as number,
    model: row.model as string,
    promptTokens: row.prompt_tokens as number,
    cachedTokens: row.cached_tokens as number,
    completionTokens: row.completion_tokens as number,
    costPico: BigInt(row.cost as string),
    tariff: JSON.parse(row.tariff as string),
    status: row.status as EntryStatus,
    backend: row.backend as string | null,
  };
}
