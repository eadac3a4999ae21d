/** Storage of an account's exports: how far each has come, and every event for Stripe's meters. The tables are in schema.ts. */
import type { MeterEvent, MeterState } from './meter.ts';
import type { Row } from './storage.ts';

export type ExportName = 'report' | 'stripe';

export class ExportStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** The last row that was exported, and when to look for more. */
  cursor(name: ExportName): { seq: number; nextMs: number | null } {
    const row = this.#sql.exec<Row>('SELECT seq, next_ms FROM cursor WHERE name = ?', name).toArray()[0];
    return { seq: (row?.seq as number) ?? 0, nextMs: (row?.next_ms as number | null) ?? null };
  }

  setCursor(name: ExportName, seq: number, nextMs: number | null): void {
    this.#sql.exec('INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)', name, seq, nextMs);
  }

  /** When the next event for Stripe is to be sent, or asked about. */
  nextEventMs(): number | null {
    const query = 'SELECT MIN(next_ms) AS next FROM meter_event WHERE next_ms IS NOT NULL';
    return this.#sql.exec<{ next: number | null }>(query).one().next;
  }

  insertEvent(event: MeterEvent): void {
    this.#sql.exec(
      'INSERT INTO meter_event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      event.identifier,
      event.name,
      event.customer,
      event.value,
      event.timestampS,
      event.state,
      event.firstSentMs,
      event.attempts,
      event.nextMs,
      event.reason,
    );
  }

  updateEvent(event: MeterEvent): void {
    this.#sql.exec(
      'UPDATE meter_event SET state = ?, first_sent_ms = ?, attempts = ?, next_ms = ?, reason = ? WHERE identifier = ?',
      event.state,
      event.firstSentMs,
      event.attempts,
      event.nextMs,
      event.reason,
      event.identifier,
    );
  }

  dueEvents(nowMs: number, limit: number): MeterEvent[] {
    const query = 'SELECT * FROM meter_event WHERE next_ms <= ? ORDER BY next_ms, identifier LIMIT ?';
    return this.#sql.exec<Row>(query, nowMs, limit).toArray().map(eventOf);
  }

  /** Every event of one meter and customer within a span of its timestamps, in whatever state. */
  eventsWithin(name: string, customer: string, fromS: number, toS: number): MeterEvent[] {
    const query = 'SELECT * FROM meter_event WHERE name = ? AND customer = ? AND timestamp_s >= ? AND timestamp_s < ?';
    return this.#sql.exec<Row>(query, name, customer, fromS, toS).toArray().map(eventOf);
  }

  /** Events that no more attempt is planned for and that were not taken: for a person to look at. */
  stuckEvents(): MeterEvent[] {
    const query = "SELECT * FROM meter_event WHERE state IN ('refused', 'disputed') ORDER BY identifier";
    return this.#sql.exec<Row>(query).toArray().map(eventOf);
  }
}

function eventOf(row: Row): MeterEvent {
  return {
    identifier: row.identifier as string,
    name: row.name as string,
    customer: row.customer as string,
    value: row.value as number,
    timestampS: row.timestamp_s as number,
    state: row.state as MeterState,
    firstSentMs: row.first_sent_ms as number | null,
    attempts: row.attempts as number,
    nextMs: row.next_ms as number | null,
    reason: row.reason as string | null,
  };
}
