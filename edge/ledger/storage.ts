/**
 * Storage of an account: one SQLite database per account.
 *
 *   account      one row: name, credit, spent and reserved (pico-USD as text: totals outgrow a double), limits, what is left in the buckets
 *   key          API keys; the secret's SHA-256 only; a revoked key stays for the record
 *   reservation  admitted and not settled: what is reserved, for which queue object, when the grant ends
 *   entry        the ledger: append-only, one row per job that a queue took, with the tariff it was priced at
 */
import type { JobStatus, KeyState, NewAccount, NewKey, SettleRequest } from './grant.ts';
import type { Buckets, Limits } from './limits.ts';
import { fullBuckets } from './limits.ts';

const SCHEMA = `
CREATE TABLE IF NOT EXISTS account (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, credit TEXT NOT NULL, spent TEXT NOT NULL, reserved TEXT NOT NULL,
  limits TEXT NOT NULL, buckets TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS key (
  id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL, models TEXT,
  created_ms INTEGER NOT NULL, expires_ms INTEGER, revoked_ms INTEGER);
CREATE TABLE IF NOT EXISTS reservation (
  job_id TEXT PRIMARY KEY, queue TEXT NOT NULL, pico TEXT NOT NULL, tokens INTEGER NOT NULL, check_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (
  seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, key_id TEXT NOT NULL, created_ms INTEGER NOT NULL, model TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  cost TEXT NOT NULL, tariff TEXT NOT NULL, status TEXT NOT NULL, backend TEXT);
`;

export interface Account {
  accountId: string;
  name: string;
  creditPico: bigint;
  spentPico: bigint;
  reservedPico: bigint;
  limits: Limits;
  buckets: Buckets;
}

export interface Reservation {
  jobId: string;
  queue: string;
  pico: bigint;
  /** Taken from the tokens-a-minute bucket. */
  tokens: number;
  /** When to ask the queue about it. */
  checkMs: number;
}

type Row = Record<string, SqlStorageValue>;

export class LedgerStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(SCHEMA);
  }

  account(): Account | null {
    const row = this.#one('SELECT * FROM account');
    if (row === null) return null;
    return {
      accountId: row.id as string,
      name: row.name as string,
      creditPico: BigInt(row.credit as string),
      spentPico: BigInt(row.spent as string),
      reservedPico: BigInt(row.reserved as string),
      limits: JSON.parse(row.limits as string),
      buckets: JSON.parse(row.buckets as string),
    };
  }

  insertAccount(account: NewAccount, nowMs: number): void {
    const buckets = JSON.stringify(fullBuckets(account.limits, nowMs));
    this.#sql.exec(
      "INSERT INTO account VALUES (?, ?, ?, '0', '0', ?, ?)",
      account.accountId,
      account.name,
      account.creditPicoUsd,
      JSON.stringify(account.limits),
      buckets,
    );
  }

  updateAccount(account: Account): void {
    this.#sql.exec(
      'UPDATE account SET credit = ?, spent = ?, reserved = ?, buckets = ?',
      account.creditPico.toString(),
      account.spentPico.toString(),
      account.reservedPico.toString(),
      JSON.stringify(account.buckets),
    );
  }

  insertKey(key: NewKey, nowMs: number): void {
    this.#sql.exec(
      'INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, NULL)',
      key.keyId,
      key.secretHash,
      key.name,
      JSON.stringify(key.scopes),
      key.models === null ? null : JSON.stringify(key.models),
      nowMs,
      key.expiresMs,
    );
  }

  key(keyId: string): (KeyState & { secretHash: string }) | null {
    const row = this.#one('SELECT * FROM key WHERE id = ?', keyId);
    return row === null ? null : { ...keyOf(row), secretHash: row.hash as string };
  }

  keys(): KeyState[] {
    return this.#sql.exec<Row>('SELECT * FROM key ORDER BY created_ms, id').toArray().map(keyOf);
  }

  revokeKey(keyId: string, nowMs: number): void {
    this.#sql.exec('UPDATE key SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL', nowMs, keyId);
  }

  numReservations(): number {
    return this.#one('SELECT COUNT(*) AS count FROM reservation')!.count as number;
  }

  reservation(jobId: string): Reservation | null {
    const row = this.#one('SELECT * FROM reservation WHERE job_id = ?', jobId);
    return row === null ? null : reservationOf(row);
  }

  reservationsToCheck(nowMs: number): Reservation[] {
    return this.#sql.exec<Row>('SELECT * FROM reservation WHERE check_ms <= ?', nowMs).toArray().map(reservationOf);
  }

  nextCheckMs(): number | null {
    return this.#one('SELECT MIN(check_ms) AS next FROM reservation')!.next as number | null;
  }

  insertReservation(reservation: Reservation): void {
    const { jobId, queue, pico, tokens, checkMs } = reservation;
    this.#sql.exec('INSERT INTO reservation VALUES (?, ?, ?, ?, ?)', jobId, queue, pico.toString(), tokens, checkMs);
  }

  checkAgainAt(jobId: string, checkMs: number): void {
    this.#sql.exec('UPDATE reservation SET check_ms = ? WHERE job_id = ?', checkMs, jobId);
  }

  deleteReservation(jobId: string): void {
    this.#sql.exec('DELETE FROM reservation WHERE job_id = ?', jobId);
  }

  hasEntry(jobId: string): boolean {
    return this.#one('SELECT 1 AS found FROM entry WHERE job_id = ?', jobId) !== null;
  }

  insertEntry(settle: SettleRequest, costPico: bigint): void {
    this.#sql.exec(
      'INSERT INTO entry VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      settle.jobId,
      settle.keyId,
      settle.createdMs,
      settle.model,
      settle.usage.promptTokens,
      settle.usage.cachedTokens,
      settle.usage.completionTokens,
      costPico.toString(),
      JSON.stringify(settle.tariff),
      settle.status,
      settle.backend,
    );
  }

  /** Newest first. */
  entries(limit: number, jobId: string | null): Entry[] {
    const rows =
      jobId === null
        ? this.#sql.exec<Row>('SELECT * FROM entry ORDER BY seq DESC LIMIT ?', limit)
        : this.#sql.exec<Row>('SELECT * FROM entry WHERE job_id = ? LIMIT ?', jobId, limit);
    return rows.toArray().map((row) => ({
      jobId: row.job_id as string,
      createdMs: row.created_ms as number,
      model: row.model as string,
      promptTokens: row.prompt_tokens as number,
      cachedTokens: row.cached_tokens as number,
      completionTokens: row.completion_tokens as number,
      costPico: BigInt(row.cost as string),
      status: row.status as JobStatus,
      backend: row.backend as string | null,
    }));
  }

  #one(query: string, ...bindings: SqlStorageValue[]): Row | null {
    return this.#sql.exec<Row>(query, ...bindings).toArray()[0] ?? null;
  }
}

export interface Entry {
  jobId: string;
  createdMs: number;
  model: string;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  costPico: bigint;
  status: JobStatus;
  backend: string | null;
}

function keyOf(row: Row): KeyState {
  return {
    keyId: row.id as string,
    name: row.name as string,
    scopes: JSON.parse(row.scopes as string),
    models: row.models === null ? null : JSON.parse(row.models as string),
    createdMs: row.created_ms as number,
    expiresMs: row.expires_ms as number | null,
    revokedMs: row.revoked_ms as number | null,
  };
}

function reservationOf(row: Row): Reservation {
  return {
    jobId: row.job_id as string,
    queue: row.queue as string,
    pico: BigInt(row.pico as string),
    tokens: row.tokens as number,
    checkMs: row.check_ms as number,
  };
}
