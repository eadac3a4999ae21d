/**
 * Schema of an account: one SQLite database per account. Amounts are pico-USD as text, since totals outgrow a double; times are
 * milliseconds of Unix time.
 *
 *   account      one row: name, credit, spent and reserved, limits and what is left in the buckets, budget and what it has seen, billing
 *   key          API keys; the secret's SHA-256 only. A revoked or rotated key stays for the record. `line` is the first key of a
 *                rotation: what a key may spend belongs to its line, so that a rotation does not begin it anew
 *   key_state    of a line with limits or a budget of its own: its buckets and its spending
 *   reservation  admitted and not ended: what is reserved, for whom, for which queue object, when the grant ends
 *   idempotency  the job that a client's Idempotency-Key stands for, by line and key, for a day: the hash of its request, its queue object
 *   entry        the ledger: append-only, exactly one row for each admitted job once it ended, with the tariff it was priced at
 *   credit       append-only: every top-up and adjustment, idempotent by its reference
 *   audit        append-only: who changed what
 *   webhook, delivery   endpoints and the events that wait for them (webhook-storage.ts)
 *   meter_event, cursor  what was told to Stripe, and how far each export has come (export-storage.ts)
 */

const TABLES = `
CREATE TABLE IF NOT EXISTS account (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, credit TEXT NOT NULL, spent TEXT NOT NULL, reserved TEXT NOT NULL,
  limits TEXT NOT NULL, buckets TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS key (
  id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL, models TEXT,
  created_ms INTEGER NOT NULL, expires_ms INTEGER, revoked_ms INTEGER);
CREATE TABLE IF NOT EXISTS key_state (line TEXT PRIMARY KEY, buckets TEXT, spending TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservation (
  job_id TEXT PRIMARY KEY, queue TEXT NOT NULL, pico TEXT NOT NULL, tokens INTEGER NOT NULL, check_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS idempotency (
  seq INTEGER PRIMARY KEY, line TEXT NOT NULL, key TEXT NOT NULL, body_hash TEXT NOT NULL, job_id TEXT NOT NULL, queue TEXT NOT NULL,
  model TEXT NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (line, key));
CREATE TABLE IF NOT EXISTS entry (
  seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, key_id TEXT NOT NULL, created_ms INTEGER NOT NULL, model TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  cost TEXT NOT NULL, tariff TEXT NOT NULL, status TEXT NOT NULL, backend TEXT);
CREATE TABLE IF NOT EXISTS credit (
  seq INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, pico TEXT NOT NULL, note TEXT, actor TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS audit (
  seq INTEGER PRIMARY KEY, created_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS webhook (
  id TEXT PRIMARY KEY, url TEXT NOT NULL, secret TEXT NOT NULL, events TEXT NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivery (
  seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL, webhook_id TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL, created_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL, next_ms INTEGER, outcome TEXT);
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, next_ms INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meter_event (
  identifier TEXT PRIMARY KEY, name TEXT NOT NULL, customer TEXT NOT NULL, value INTEGER NOT NULL, timestamp_s INTEGER NOT NULL,
  state TEXT NOT NULL, first_sent_ms INTEGER, attempts INTEGER NOT NULL, next_ms INTEGER, reason TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS meter_event_by_next ON meter_event (next_ms) WHERE next_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS meter_event_stuck ON meter_event (identifier) WHERE state IN ('refused', 'disputed');
`;

/** Columns that came after the tables: storage outlives releases. */
const COLUMNS: readonly [table: string, column: string, declaration: string][] = [
  ['account', 'billing', "TEXT NOT NULL DEFAULT 'prepaid'"],
  ['account', 'budget', 'TEXT'],
  ['account', 'spending', 'TEXT'],
  ['account', 'credit_told', 'INTEGER NOT NULL DEFAULT 0'],
  ['account', 'stripe_customer', 'TEXT'],
  ['key', 'line', "TEXT NOT NULL DEFAULT ''"],
  ['key', 'prefix', "TEXT NOT NULL DEFAULT ''"],
  ['key', 'last_four', "TEXT NOT NULL DEFAULT ''"],
  ['key', 'ips', 'TEXT'],
  ['key', 'limits', 'TEXT'],
  ['key', 'budget', 'TEXT'],
  ['reservation', 'key_id', "TEXT NOT NULL DEFAULT ''"],
  ['reservation', 'line', "TEXT NOT NULL DEFAULT ''"],
  ['reservation', 'user', 'TEXT'],
  ['reservation', 'model', "TEXT NOT NULL DEFAULT ''"],
  ['reservation', 'created_ms', 'INTEGER NOT NULL DEFAULT 0'],
  ['reservation', 'tariff', "TEXT NOT NULL DEFAULT '{}'"],
  ['reservation', 'idempotency_key', 'TEXT'],
  ['entry', 'settled_ms', 'INTEGER NOT NULL DEFAULT 0'],
  ['entry', 'user', 'TEXT'],
];

/** Makes what is missing; a new database and one of an earlier release end up the same. */
export function prepare(sql: SqlStorage): void {
  sql.exec(TABLES);
  for (const table of new Set(COLUMNS.map(([name]) => name))) {
    const known = new Set(
      sql
        .exec<{ name: string }>(`PRAGMA table_info(${table})`)
        .toArray()
        .map(({ name }) => name),
    );
    for (const [, column, declaration] of COLUMNS.filter(([name, column]) => name === table && !known.has(column)))
      sql.exec(`ALTER TABLE ${table} ADD COLUMN ${column} ${declaration}`);
    // Rows of before: a key is its own line, and a row was settled about when it was admitted.
    if (table === 'key' && !known.has('line')) sql.exec('UPDATE key SET line = id');
    if (table === 'entry' && !known.has('settled_ms')) sql.exec('UPDATE entry SET settled_ms = created_ms');
  }
}
