/** Storage of an account's webhooks and of the events that wait for them. The tables are in schema.ts; secrets are kept, since they sign. */
import type { Delivery, Webhook, WebhookEvent } from '../api/accounts.ts';
import type { Row } from './storage.ts';
import type { Event } from './webhook.ts';
import { bodyOf } from './webhook.ts';

export interface DueDelivery extends Delivery {
  seq: number;
  url: string;
  secret: string;
  body: string;
}

export class WebhookStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  insert(webhook: Webhook, secret: string): void {
    const { id, url, events, createdMs } = webhook;
    this.#sql.exec('INSERT INTO webhook VALUES (?, ?, ?, ?, ?)', id, url, secret, JSON.stringify(events), createdMs);
  }

  list(): Webhook[] {
    const rows = this.#sql.exec<Row>('SELECT * FROM webhook ORDER BY created_ms, id').toArray();
    return rows.map((row) => ({
      id: row.id as string,
      url: row.url as string,
      events: JSON.parse(row.events as string) as WebhookEvent[],
      createdMs: row.created_ms as number,
    }));
  }

  /** With its deliveries; false when it was not there. */
  remove(id: string): boolean {
    this.#sql.exec('DELETE FROM delivery WHERE webhook_id = ?', id);
    return this.#sql.exec('DELETE FROM webhook WHERE id = ?', id).rowsWritten > 0;
  }

  /** Queues an event for every endpoint that wants it; false when none does. */
  queue(event: Event): boolean {
    const wanting = this.list().filter(({ events }) => events.includes(event.type));
    for (const { id } of wanting)
      this.#sql.exec(
        'INSERT INTO delivery (event_id, webhook_id, type, body, created_ms, attempts, next_ms) VALUES (?, ?, ?, ?, ?, 0, ?)',
        event.id,
        id,
        event.type,
        bodyOf(event),
        event.createdMs,
        event.createdMs,
      );
    return wanting.length > 0;
  }

  due(nowMs: number, limit: number): DueDelivery[] {
    const query = `SELECT delivery.*, url, secret FROM delivery JOIN webhook ON webhook.id = webhook_id
      WHERE next_ms <= ? ORDER BY next_ms LIMIT ?`;
    return this.#sql
      .exec<Row>(query, nowMs, limit)
      .toArray()
      .map((row) => ({
        ...deliveryOf(row),
        seq: row.seq as number,
        url: row.url as string,
        secret: row.secret as string,
        body: row.body as string,
      }));
  }

  nextMs(): number | null {
    return this.#sql.exec<{ next: number | null }>('SELECT MIN(next_ms) AS next FROM delivery').one().next;
  }

  /** What became of an attempt. `nextMs: null`: it is done with. */
  attempted(seq: number, outcome: string, nextMs: number | null): void {
    const query = 'UPDATE delivery SET attempts = attempts + 1, outcome = ?, next_ms = ? WHERE seq = ?';
    this.#sql.exec(query, outcome, nextMs, seq);
  }

  /** Newest first. */
  deliveries(webhookId: string, limit: number): Delivery[] {
    const query = 'SELECT * FROM delivery WHERE webhook_id = ? ORDER BY seq DESC LIMIT ?';
    return this.#sql.exec<Row>(query, webhookId, limit).toArray().map(deliveryOf);
  }

  /** Forgets deliveries that were done with before a moment. */
  drop(beforeMs: number): void {
    this.#sql.exec('DELETE FROM delivery WHERE next_ms IS NULL AND created_ms < ?', beforeMs);
  }
}

function deliveryOf(row: Row): Delivery {
  return {
    eventId: row.event_id as string,
    webhookId: row.webhook_id as string,
    type: row.type as string,
    createdMs: row.created_ms as number,
    attempts: row.attempts as number,
    nextMs: row.next_ms as number | null,
    outcome: row.outcome as string | null,
  };
}
