/** Storage of an account's money: the account's row, its reservations, its entries and its credits. The tables are in schema.ts. */
import type { AccountSettings, Billing, Credit, Limits, LogPage, Placed } from '../api/accounts.ts';
import { budgetOfJson, budgetToJson, spendingOfJson, spendingToJson } from './amounts.ts';
import type { Spending } from './budget.ts';
import type { JobStatus, SettleRequest } from './grant.ts';
import type { Buckets } from './limits.ts';
import { fullBuckets } from './limits.ts';
import type { Tariff } from './price.ts';

export interface Account extends AccountSettings {
  accountId: string;
  creditPico: bigint;
  spentPico: bigint;
  reservedPico: bigint;
  buckets: Buckets;
  /** Counted while there is a budget. */
  spending: Spending;
  /** Whether it was told that the credit is used up, since the last top-up. */
  creditTold: boolean;
}

export interface Reservation {
  jobId: string;
  keyId: string;
  line: string;
  user: string | null;
  queue: string;
  model: string;
  tariff: Tariff;
  pico: bigint;
  /** Taken from the tokens-a-minute buckets. */
  tokens: number;
  createdMs: number;
  /** When to ask the queue about it. */
  checkMs: number;
  /** The client's, under which the job is remembered. */
  idempotencyKey: string | null;
}

/** `released`: admitted, and never taken by a queue. */
export type EntryStatus = JobStatus | 'released';

export interface Entry {
  seq: number;
  jobId: string;
  keyId: string;
  user: string | null;
  createdMs: number;
  settledMs: number;
  model: string;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  costPico: bigint;
  tariff: Tariff;
  status: EntryStatus;
  backend: string | null;
}

export type Row = Record<string, SqlStorageValue>;

export class LedgerStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  account(): Account | null {
    const row = this.#one('SELECT * FROM account');
    if (row === null) return null;
    const limits: Limits = JSON.parse(row.limits as string);
    const buckets = JSON.parse(row.buckets as string);
    return {
      accountId: row.id as string,
      name: row.name as string,
      billing: row.billing as Billing,
      creditPico: BigInt(row.credit as string),
      spentPico: BigInt(row.spent as string),
      reservedPico: BigInt(row.reserved as string),
      limits,
      // Buckets of an earlier release were counted otherwise; a full one errs for a minute.
      buckets: 'requestUnits' in buckets ? buckets : fullBuckets(limits, buckets.atMs),
      budget: budgetOfJson(row.budget as string | null),
      spending: spendingOfJson(row.spending as string | null),
      creditTold: row.credit_told === 1,
      stripeCustomer: row.stripe_customer as string | null,
    };
  }

  insertAccount(accountId: string): void {
    this.#sql.exec(
      "INSERT INTO account (id, name, credit, spent, reserved, limits, buckets) VALUES (?, '', '0', '0', '0', '{}', '{}')",
      accountId,
    );
  }

  updateAccount(account: Account): void {
    this.#sql.exec(
      `UPDATE account SET name = ?, billing = ?, credit = ?, spent = ?, reserved = ?, limits = ?, buckets = ?, budget = ?, spending = ?,
       credit_told = ?, stripe_customer = ?`,
      account.name,
      account.billing,
      account.creditPico.toString(),
      account.spentPico.toString(),
      account.reservedPico.toString(),
      JSON.stringify(account.limits),
      JSON.stringify(account.buckets),
      budgetToJson(account.budget),
      account.budget === null ? null : spendingToJson(account.spending),
      account.creditTold ? 1 : 0,
      account.stripeCustomer,
    );
  }

  numReservations(line: string | null): number {
    const query = 'SELECT COUNT(*) AS count FROM reservation';
    const row = line === null ? this.#one(query) : this.#one(`${query} WHERE line = ?`, line);
    return row!.count as number;
  }

  /** Of the whole account, or of one line of keys. */
  reservedPico(line: string): bigint {
    const rows = this.#sql.exec<Row>('SELECT pico FROM reservation WHERE line = ?', line).toArray();
    return rows.reduce((sum, row) => sum + BigInt(row.pico as string), 0n);
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
    this.#sql.exec(
      `INSERT INTO reservation (job_id, queue, pico, tokens, check_ms, key_id, line, user, model, created_ms, tariff,
       idempotency_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      reservation.jobId,
      reservation.queue,
      reservation.pico.toString(),
      reservation.tokens,
      reservation.checkMs,
      reservation.keyId,
      reservation.line,
      reservation.user,
      reservation.model,
      reservation.createdMs,
      JSON.stringify(reservation.tariff),
      reservation.idempotencyKey,
    );
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

  insertEntry(entry: Omit<Entry, 'seq'>): void {
    this.#sql.exec(
      `INSERT INTO entry (job_id, key_id, created_ms, model, prompt_tokens, cached_tokens, completion_tokens, cost, tariff, status, backend,
       settled_ms, user) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      entry.jobId,
      entry.keyId,
      entry.createdMs,
      entry.model,
      entry.promptTokens,
      entry.cachedTokens,
      entry.completionTokens,
      entry.costPico.toString(),
      JSON.stringify(entry.tariff),
      entry.status,
      entry.backend,
      entry.settledMs,
      entry.user,
    );
  }

  /** False when a credit of this reference is there already. */
  insertCredit(credit: Credit): boolean {
    const { rowsWritten } = this.#sql.exec(
      'INSERT OR IGNORE INTO credit (reference, pico, note, actor, created_ms) VALUES (?, ?, ?, ?, ?)',
      credit.reference,
      credit.pico.toString(),
      credit.note,
      credit.actor,
      credit.createdMs,
    );
    return rowsWritten > 0;
  }

  credit(reference: string): Credit | null {
    const row = this.#one('SELECT * FROM credit WHERE reference = ?', reference);
    return row === null ? null : creditOf(row);
  }

  /** Newest first. */
  credits({ limit, before }: LogPage): Placed<Credit>[] {
    const query = 'SELECT * FROM credit WHERE seq < ? ORDER BY seq DESC LIMIT ?';
    const rows = this.#sql.exec<Row>(query, before ?? Number.MAX_SAFE_INTEGER, limit).toArray();
    return rows.map((row) => ({ seq: row.seq as number, ...creditOf(row) }));
  }

  #one(query: string, ...bindings: SqlStorageValue[]): Row | null {
    return this.#sql.exec<Row>(query, ...bindings).toArray()[0] ?? null;
  }
}

function reservationOf(row: Row): Reservation {
  return {
    jobId: row.job_id as string,
    keyId: row.key_id as string,
    line: row.line as string,
    user: row.user as string | null,
    queue: row.queue as string,
    model: row.model as string,
    tariff: JSON.parse(row.tariff as string),
    pico: BigInt(row.pico as string),
    tokens: row.tokens as number,
    createdMs: row.created_ms as number,
    checkMs: row.check_ms as number,
    idempotencyKey: row.idempotency_key as string | null,
  };
}

function creditOf(row: Row): Credit {
  return {
    reference: row.reference as string,
    pico: BigInt(row.pico as string),
    note: row.note as string | null,
    actor: row.actor as string,
    createdMs: row.created_ms as number,
  };
}

/** An ended job as its entry. */
export function entryOf(
  settled: SettleRequest,
  costPico: bigint,
  user: string | null,
  nowMs: number,
): Omit<Entry, 'seq'> {
  const { promptTokens, cachedTokens, completionTokens } = settled.usage;
  const { jobId, keyId, createdMs, model, tariff, status, backend } = settled;
  const tokens = { promptTokens, cachedTokens, completionTokens };
  return { jobId, keyId, user, createdMs, settledMs: nowMs, model, ...tokens, costPico, tariff, status, backend };
}
