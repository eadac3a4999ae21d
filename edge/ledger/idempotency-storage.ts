/** Storage of idempotency keys: the job that each stands for, for a day. Keys belong to a line of API keys. The table is in schema.ts. */
import type { Row } from './storage.ts';

/** How long a key stands for its job, from its admission. */
const REMEMBER_MS = 86_400_000;
/** The queue keeps the answer a little longer than the key is known, so that a key which is known still has one. */
const KEEP_MARGIN_MS = 600_000;
/** Keys past their day go together, about once an hour. */
const DROP_DELAY_MS = 3_600_000;
/** Rows that one wake drops; the next wake goes on. */
const DROP_AT_ONCE = 1_000;

export interface Remembered {
  bodyHash: string;
  jobId: string;
  queue: string;
  model: string;
  createdMs: number;
}

/** Until when the queue is to keep the answer of a job admitted under a key. */
export function keepUntilMs(createdMs: number): number {
  return createdMs + REMEMBER_MS + KEEP_MARGIN_MS;
}

export class IdempotencyStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  find(line: string, key: string, nowMs: number): Remembered | null {
    const query = 'SELECT * FROM idempotency WHERE line = ? AND key = ? AND created_ms > ?';
    const row = this.#sql.exec<Row>(query, line, key, nowMs - REMEMBER_MS).toArray()[0];
    if (row === undefined) return null;
    return {
      bodyHash: row.body_hash as string,
      jobId: row.job_id as string,
      queue: row.queue as string,
      model: row.model as string,
      createdMs: row.created_ms as number,
    };
  }

  /** One whose day is over gives way. */
  insert(line: string, key: string, { bodyHash, jobId, queue, model, createdMs }: Remembered): void {
    this.#sql.exec(
      `INSERT OR REPLACE INTO idempotency (line, key, body_hash, job_id, queue, model, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      line,
      key,
      bodyHash,
      jobId,
      queue,
      model,
      createdMs,
    );
  }

  /** The job came to nothing: the key is free again, unless it stands for another job by now. */
  forget(line: string, key: string, jobId: string): void {
    this.#sql.exec('DELETE FROM idempotency WHERE line = ? AND key = ? AND job_id = ?', line, key, jobId);
  }

  drop(nowMs: number): void {
    const oldest = 'SELECT seq, created_ms FROM idempotency ORDER BY seq LIMIT ?';
    this.#sql.exec(
      `DELETE FROM idempotency WHERE seq IN (SELECT seq FROM (${oldest}) WHERE created_ms <= ?)`,
      DROP_AT_ONCE,
      nowMs - REMEMBER_MS,
    );
  }

  /** When the oldest key is to be dropped. */
  nextDropMs(): number | null {
    const row = this.#sql.exec<Row>('SELECT created_ms FROM idempotency ORDER BY seq LIMIT 1').toArray()[0];
    return row === undefined ? null : (row.created_ms as number) + REMEMBER_MS + DROP_DELAY_MS;
  }
}
