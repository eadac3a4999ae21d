/** Storage of an account's keys, of what each line of them has left, and of the audit log. The tables are in schema.ts. */
import type { AuditEntry, KeySettings, KeyState, LogPage, Placed } from '../api/accounts.ts';
import { budgetOfJson, budgetToJson, spendingOfJson, spendingToJson } from './amounts.ts';
import type { Spending } from './budget.ts';
import type { KeyIdentity } from './key.ts';
import type { Buckets } from './limits.ts';
import type { Row } from './storage.ts';

/** What a line of keys with limits or a budget of its own has left. */
export interface LineState {
  /** Null: full. */
  buckets: Buckets | null;
  spending: Spending;
}

export class KeyStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  insert(identity: KeyIdentity, settings: KeySettings, line: string, nowMs: number): void {
    this.#sql.exec(
      `INSERT INTO key (id, hash, name, scopes, created_ms, line, prefix, last_four) VALUES (?, ?, '', '[]', ?, ?, ?, ?)`,
      identity.keyId,
      identity.secretHash,
      nowMs,
      line,
      identity.prefix,
      identity.lastFour,
    );
    this.update(identity.keyId, settings);
  }

  update(keyId: string, settings: KeySettings): void {
    const { name, scopes, models, ips, expiresMs, limits, budget } = settings;
    this.#sql.exec(
      'UPDATE key SET name = ?, scopes = ?, models = ?, ips = ?, expires_ms = ?, limits = ?, budget = ? WHERE id = ?',
      name,
      JSON.stringify(scopes),
      models === null ? null : JSON.stringify(models),
      ips === null ? null : JSON.stringify(ips),
      expiresMs,
      limits === null ? null : JSON.stringify(limits),
      budgetToJson(budget),
      keyId,
    );
  }

  /** What a line may spend is one for all of its keys, ended ones too: their jobs may still run. */
  updateLine(line: string, { limits, budget }: Pick<KeySettings, 'limits' | 'budget'>): void {
    const query = 'UPDATE key SET limits = ?, budget = ? WHERE line = ?';
    this.#sql.exec(query, limits === null ? null : JSON.stringify(limits), budgetToJson(budget), line);
  }

  find(keyId: string): (KeyState & { secretHash: string }) | null {
    const row = this.#sql.exec<Row>('SELECT * FROM key WHERE id = ?', keyId).toArray()[0];
    return row === undefined ? null : { ...keyOf(row), secretHash: row.hash as string };
  }

  list(): KeyState[] {
    return this.#sql.exec<Row>('SELECT * FROM key ORDER BY created_ms, id').toArray().map(keyOf);
  }

  /** Ends a key now or later; false when it had ended already. */
  revoke(keyId: string, nowMs: number): boolean {
    const query = 'UPDATE key SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL';
    return this.#sql.exec(query, nowMs, keyId).rowsWritten > 0;
  }

  lineState(line: string): LineState {
    const row = this.#sql.exec<Row>('SELECT * FROM key_state WHERE line = ?', line).toArray()[0];
    return {
      buckets: row?.buckets ? JSON.parse(row.buckets as string) : null,
      spending: spendingOfJson((row?.spending as string | null | undefined) ?? null),
    };
  }

  setLineState(line: string, state: LineState): void {
    this.#sql.exec(
      'INSERT OR REPLACE INTO key_state VALUES (?, ?, ?)',
      line,
      state.buckets === null ? null : JSON.stringify(state.buckets),
      spendingToJson(state.spending),
    );
  }

  audit({ createdMs, actor, action, target, detail }: AuditEntry): void {
    const query = 'INSERT INTO audit (created_ms, actor, action, target, detail) VALUES (?, ?, ?, ?, ?)';
    const json = JSON.stringify(detail, (_, value) => (typeof value === 'bigint' ? value.toString() : value));
    this.#sql.exec(query, createdMs, actor, action, target, json);
  }

  /** Newest first. */
  auditLog({ limit, before }: LogPage): Placed<AuditEntry>[] {
    const query = 'SELECT * FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?';
    const rows = this.#sql.exec<Row>(query, before ?? Number.MAX_SAFE_INTEGER, limit).toArray();
    return rows.map((row) => ({
      seq: row.seq as number,
      createdMs: row.created_ms as number,
      actor: row.actor as string,
      action: row.action as string,
      target: row.target as string,
      detail: JSON.parse(row.detail as string),
    }));
  }
}

function keyOf(row: Row): KeyState {
  const json = (column: string) => (row[column] === null ? null : JSON.parse(row[column] as string));
  return {
    keyId: row.id as string,
    line: row.line as string,
    prefix: row.prefix as string,
    lastFour: row.last_four as string,
    name: row.name as string,
    scopes: json('scopes'),
    models: json('models'),
    ips: json('ips'),
    limits: json('limits'),
    budget: budgetOfJson(row.budget as string | null),
    createdMs: row.created_ms as number,
    expiresMs: row.expires_ms as number | null,
    revokedMs: row.revoked_ms as number | null,
  };
}
