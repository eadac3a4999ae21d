/** Storage of a queue: its jobs, their accepted tokens and the settlements on their way, in the tables of schema.ts. */
import type { Job, TokenOut } from '../../core/protocol.ts';
import type { Grant, SettleRequest } from '../ledger/grant.ts';
import type { EndEvent, Lease, LiveJob } from './job.ts';
import { acceptedTokens } from './job.ts';
import type { FallbackPolicy } from './policy.ts';
import { prepare } from './schema.ts';

/** A row's limit is 2 MB; this leaves room for the grant. */
export const MAX_BODY_BYTES = 1_900_000;
/** Ended jobs that one wake drops; the next wake goes on. */
const DROP_AT_ONCE = 1_000;
/** A chunk takes further checkpoints up to this size: a row costs when it is written and when it is deleted, its bytes do not. */
const MAX_CHUNK_BYTES = 64 * 1024;

type Row = Record<string, SqlStorageValue>;

export interface Due {
  settlement: SettleRequest;
  attempts: number;
}

export class QueueStore {
  readonly #storage: DurableObjectStorage;
  readonly #sql: SqlStorage;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    this.#sql = storage.sql;
    prepare(this.#sql);
  }

  /** All of its writes or none. */
  atomically(write: () => void): void {
    this.#storage.transactionSync(write);
  }

  /** Returns its place in the order of arrival. */
  insert(grant: Grant, body: string, nowMs: number): number {
    const row = this.#one(
      'INSERT INTO job (id, grant, body, enqueued_ms, epoch, deaths) VALUES (?, ?, ?, ?, 0, 0) RETURNING seq',
      grant.jobId,
      JSON.stringify(grant),
      body,
      nowMs,
    );
    return row!.seq as number;
  }

  /** The job as it was submitted, while it lives. */
  body(id: string): Job {
    return JSON.parse(this.#one('SELECT body FROM job WHERE id = ?', id)!.body as string);
  }

  /** Every job that has not ended, in the order of arrival; without readers, and with the tokens that reached storage. */
  live(nowMs: number): LiveJob[] {
    return this.#sql
      .exec<Row>('SELECT * FROM job WHERE drop_ms IS NULL ORDER BY seq')
      .toArray()
      .map((row) => this.#jobOf(row, nowMs));
  }

  find(id: string, nowMs: number): LiveJob | null {
    const row = this.#one('SELECT * FROM job WHERE id = ?', id);
    return row === null ? null : this.#jobOf(row, nowMs);
  }

  /** Which of these jobs are here, living, ended or not settled. */
  known(ids: readonly string[]): string[] {
    return ids.filter(
      (id) => this.#one('SELECT 1 FROM job WHERE id = ?1 UNION SELECT 1 FROM outbox WHERE job_id = ?1', id) !== null,
    );
  }

  /** Lease, epoch, deaths, backend and start, as they are now. */
  update(job: LiveJob): void {
    this.#sql.exec(
      'UPDATE job SET epoch = ?, death_list = ?, socket_id = ?, worker_id = ?, backend = ?, started = ? WHERE seq = ?',
      job.epoch,
      JSON.stringify(job.deaths),
      job.lease?.socketId ?? null,
      job.holder,
      job.backend,
      job.started === null ? null : JSON.stringify(job.started),
      job.seq,
    );
  }

  /** Moves the tail of accepted tokens to storage. */
  checkpoint(job: LiveJob): void {
    if (job.tail.length === 0) return;
    const tokens = JSON.stringify(job.tail);
    // Two JSON arrays become one.
    const grown = this.#one(
      `UPDATE chunk SET count = count + ?1, tokens = substr(tokens, 1, length(tokens) - 1) || ',' || substr(?2, 2)
       WHERE job_id = ?3 AND first = (SELECT MAX(first) FROM chunk WHERE job_id = ?3) AND first + count = ?4
       AND octet_length(tokens) + octet_length(?2) <= ?5 RETURNING first`,
      job.tail.length,
      tokens,
      job.id,
      job.stored,
      MAX_CHUNK_BYTES,
    );
    if (grown === null)
      this.#sql.exec('INSERT INTO chunk VALUES (?, ?, ?, ?)', job.id, job.stored, job.tail.length, tokens);
    job.stored = acceptedTokens(job);
    job.tail = [];
  }

  /** The stored tokens from a place on, up to the end of its chunk. */
  tokensFrom(id: string, from: number): TokenOut[] {
    const row = this.#one(
      'SELECT first, tokens FROM chunk WHERE job_id = ? AND first <= ? ORDER BY first DESC LIMIT 1',
      id,
      from,
    );
    if (row === null) return [];
    const tokens: TokenOut[] = JSON.parse(row.tokens as string);
    return tokens.slice(from - (row.first as number));
  }

  /** Ends a job and puts its settlement into the outbox; call it inside a transaction with its last checkpoint. */
  end(job: LiveJob, event: EndEvent, settlement: SettleRequest, when: { nowMs: number; dropMs: number }): void {
    this.#sql.exec(
      "UPDATE job SET socket_id = NULL, body = '', ending = ?, ended_ms = ?, drop_ms = ?, started = ?, backend = ?, death_list = ? WHERE seq = ?",
      JSON.stringify(event),
      when.nowMs,
      when.dropMs,
      job.started === null ? null : JSON.stringify(job.started),
      job.backend,
      JSON.stringify(job.deaths),
      job.seq,
    );
    const json = JSON.stringify(settlement);
    this.#sql.exec('INSERT INTO outbox VALUES (?, ?, ?, 0, ?)', job.id, job.grant.accountId, json, when.nowMs);
  }

  /** Accounts with a settlement whose time has come. */
  dueAccounts(nowMs: number): string[] {
    return this.#sql
      .exec<{ account: string }>('SELECT DISTINCT account FROM outbox WHERE next_ms <= ?', nowMs)
      .toArray()
      .map((row) => row.account);
  }

  /** An account's settlements whose time has come, the oldest first. */
  due(accountId: string, nowMs: number, limit: number): Due[] {
    return this.#sql
      .exec<Row>(
        'SELECT * FROM outbox WHERE account = ? AND next_ms <= ? ORDER BY next_ms LIMIT ?',
        accountId,
        nowMs,
        limit,
      )
      .toArray()
      .map((row) => ({ settlement: JSON.parse(row.settlement as string), attempts: row.attempts as number }));
  }

  acknowledge(jobIds: readonly string[]): void {
    for (const id of jobIds) this.#sql.exec('DELETE FROM outbox WHERE job_id = ?', id);
  }

  postpone(jobIds: readonly string[], nextMs: number): void {
    for (const id of jobIds)
      this.#sql.exec('UPDATE outbox SET attempts = attempts + 1, next_ms = ? WHERE job_id = ?', nextMs, id);
  }

  numUnsettled(): number {
    return this.#one('SELECT COUNT(*) AS count FROM outbox')!.count as number;
  }

  /** When the next ended job is to be dropped. */
  nextDropMs(): number | null {
    return this.#one('SELECT MIN(drop_ms) AS next FROM job')!.next as number | null;
  }

  /** Drops ended jobs whose time has come. */
  drop(nowMs: number): void {
    const rows = this.#sql.exec<{ id: string }>(
      'DELETE FROM job WHERE seq IN (SELECT seq FROM job WHERE drop_ms <= ? LIMIT ?) RETURNING id',
      nowMs,
      DROP_AT_ONCE,
    );
    for (const { id } of rows.toArray()) this.#sql.exec('DELETE FROM chunk WHERE job_id = ?', id);
  }

  /** Ids of the stored tokens, in order. */
  tokenIds(id: string): number[] {
    return this.#sql
      .exec<{ tokens: string }>('SELECT tokens FROM chunk WHERE job_id = ? ORDER BY first', id)
      .toArray()
      .flatMap(({ tokens }) => (JSON.parse(tokens) as TokenOut[]).map((token) => token.id));
  }

  /** `never` until a request said otherwise. */
  fallbackPolicy(): FallbackPolicy {
    return (this.#one("SELECT value FROM setting WHERE name = 'fallback'")?.value ?? 'never') as FallbackPolicy;
  }

  setFallbackPolicy(policy: FallbackPolicy): void {
    this.#sql.exec("INSERT OR REPLACE INTO setting VALUES ('fallback', ?)", policy);
  }

  quarantine(workerId: string, reason: string): void {
    this.#sql.exec('INSERT OR REPLACE INTO quarantine VALUES (?, ?)', workerId, reason);
  }

  /** Why a worker may not come in, or null. */
  quarantineOf(workerId: string): string | null {
    const row = this.#one('SELECT reason FROM quarantine WHERE worker_id = ?', workerId);
    return row === null ? null : (row.reason as string);
  }

  reinstate(workerId: string): void {
    this.#sql.exec('DELETE FROM quarantine WHERE worker_id = ?', workerId);
  }

  #jobOf(row: Row, nowMs: number): LiveJob {
    // A job of before idempotency keys has none.
    const grant: Grant = { keepUntilMs: null, ...JSON.parse(row.grant as string) };
    const id = row.id as string;
    const epoch = row.epoch as number;
    const socketId = row.socket_id as string | null;
    const lease: Lease | null = socketId === null ? null : { socketId, epoch, heardMs: nowMs, phase: 'replaying' };
    const stored = this.#one('SELECT COALESCE(SUM(count), 0) AS stored FROM chunk WHERE job_id = ?', id)!.stored;
    return {
      id,
      accountId: grant.accountId,
      grant,
      seq: row.seq as number,
      waitingSinceMs: row.epoch === 0 ? (row.enqueued_ms as number) : nowMs,
      epoch,
      deaths: JSON.parse(row.death_list as string),
      lease,
      holder: row.worker_id as string | null,
      heldUntilMs: 0,
      backend: row.backend as string | null,
      started: row.started === null ? null : JSON.parse(row.started as string),
      stored: stored as number,
      tail: [],
      tailSinceMs: nowMs,
      end: row.ending === null ? null : JSON.parse(row.ending as string),
      readers: new Set(),
      sinceMs: nowMs,
    };
  }

  #one(query: string, ...bindings: SqlStorageValue[]): Row | null {
    return this.#sql.exec<Row>(query, ...bindings).toArray()[0] ?? null;
  }
}
