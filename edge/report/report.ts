/** Report: the copy of every account's ledger in D1, for questions across accounts. Never asked on the way of a request, and never an authority. */
import type { BucketRow } from '../api/accounts.ts';
import type { ReportQuery, ReportSum } from '../api/admin.ts';
import type { LedgerRow, Page } from '../api/books.ts';
import { bucketStatement, sumOf } from '../ledger/usage-query.ts';
import type { ReportMessage, ReportRow } from './message.ts';

const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS entry (
    account TEXT NOT NULL, seq INTEGER NOT NULL, job_id TEXT NOT NULL, key_id TEXT NOT NULL, user TEXT, created_ms INTEGER NOT NULL,
    settled_ms INTEGER NOT NULL, model TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cost TEXT NOT NULL, tariff TEXT NOT NULL, status TEXT NOT NULL, backend TEXT,
    PRIMARY KEY (account, seq)) WITHOUT ROWID`,
  'CREATE INDEX IF NOT EXISTS entry_by_time ON entry (created_ms)',
];
const COLUMNS =
  'seq, job_id, key_id, user, created_ms, settled_ms, model, prompt_tokens, cached_tokens, completion_tokens, cost, tariff, status, backend';
const PATHS = COLUMNS.split(', ').map((column) => `json_extract(value, '$.${column}')`);

export class Report {
  readonly #database: D1Database;
  #prepared = false;

  constructor(database: D1Database) {
    this.#database = database;
  }

  /** Messages come at least once and in any order; a row's place in its ledger makes it one row here. All hold when this returns, or none. */
  async accept(messages: readonly ReportMessage[]): Promise<void> {
    await this.#prepare();
    const insert = this.#database.prepare(
      `INSERT INTO entry (account, ${COLUMNS}) SELECT ?1, ${PATHS.join(', ')} FROM json_each(?2) WHERE true ON CONFLICT DO NOTHING`,
    );
    await this.#database.batch(messages.map(({ accountId, rows }) => insert.bind(accountId, JSON.stringify(rows))));
  }

  async sums(query: ReportQuery): Promise<ReportSum[]> {
    await this.#prepare();
    const { sql, bindings } = bucketStatement({ ...query, where: [], bindings: [] });
    const { results } = await this.#database
      .prepare(sql)
      .bind(...bindings)
      .all();
    return results.map((row) => {
      const sum: BucketRow = sumOf(row as Parameters<typeof sumOf>[0]);
      return { ...sum, accountId: (row.account as string | undefined) ?? null };
    });
  }

  /** One account's rows after a place in its ledger. */
  async rows(accountId: string, { after, limit }: Page): Promise<LedgerRow[]> {
    await this.#prepare();
    const { results } = await this.#database
      .prepare(`SELECT ${COLUMNS} FROM entry WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?`)
      .bind(accountId, after, limit)
      .all<ReportRow>();
    return results.map((row) => ({
      seq: row.seq,
      jobId: row.job_id,
      keyId: row.key_id,
      model: row.model,
      status: row.status as LedgerRow['status'],
      promptTokens: row.prompt_tokens,
      cachedTokens: row.cached_tokens,
      completionTokens: row.completion_tokens,
      costPico: BigInt(row.cost),
      backend: row.backend,
      createdMs: row.created_ms,
      settledMs: row.settled_ms,
    }));
  }

  /** How many rows of each account are here and the last one's place: equal where none is missing. */
  async progress(accountId: string): Promise<{ numRows: number; lastSeq: number }> {
    await this.#prepare();
    const row = await this.#database
      .prepare('SELECT COUNT(*) AS rows, COALESCE(MAX(seq), 0) AS last FROM entry WHERE account = ?')
      .bind(accountId)
      .first<{ rows: number; last: number }>();
    return { numRows: row!.rows, lastSeq: row!.last };
  }

  async #prepare(): Promise<void> {
    if (this.#prepared) return;
    await this.#database.batch(SCHEMA.map((statement) => this.#database.prepare(statement)));
    this.#prepared = true;
  }
}
