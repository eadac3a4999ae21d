/**
 * Schema of a queue: one SQLite database per (model, shard).
 *
 *   job         one row a job. ended_ms and drop_ms are null while it lives; then the prompt is emptied and the row stays
 *               readable until drop_ms
 *               (socket_id, worker_id: of its lease; death_list: JSON; deaths was their number before there was a list)
 *   chunk       accepted tokens: `first` is the place of its first token. A checkpoint makes the last one longer, or begins the next
 *   outbox      settlements that the ledger has not acknowledged
 *   quarantine  workers whose count of tokens was not ours
 *   setting     what holds for the whole queue: the model's fallback policy as the last request brought it
 */

const TABLES = `
CREATE TABLE IF NOT EXISTS job (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, grant TEXT NOT NULL, body TEXT NOT NULL, enqueued_ms INTEGER NOT NULL,
  epoch INTEGER NOT NULL, deaths INTEGER NOT NULL, socket_id TEXT, backend TEXT, started TEXT, ending TEXT, ended_ms INTEGER);
CREATE TABLE IF NOT EXISTS chunk (job_id TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, tokens TEXT NOT NULL,
  PRIMARY KEY (job_id, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (job_id TEXT PRIMARY KEY, account TEXT NOT NULL, settlement TEXT NOT NULL, attempts INTEGER NOT NULL,
  next_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (worker_id TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`;

/** Columns that came after the tables: storage outlives releases. */
const COLUMNS: readonly [table: string, column: string, declaration: string][] = [
  ['job', 'worker_id', 'TEXT'],
  ['job', 'death_list', "TEXT NOT NULL DEFAULT '[]'"],
  ['job', 'drop_ms', 'INTEGER'],
];

/** Makes what is missing; a new database and one of an earlier release end up the same. */
export function prepare(sql: SqlStorage): void {
  sql.exec(TABLES);
  for (const table of new Set(COLUMNS.map(([name]) => name))) {
    const rows = sql.exec<{ name: string }>(`PRAGMA table_info(${table})`).toArray();
    const known = new Set(rows.map(({ name }) => name));
    for (const [, column, declaration] of COLUMNS.filter(([name, column]) => name === table && !known.has(column)))
      sql.exec(`ALTER TABLE ${table} ADD COLUMN ${column} ${declaration}`);
    // Rows of before: an ended job was kept for ten minutes.
    if (table === 'job' && !known.has('drop_ms'))
      sql.exec(`UPDATE job SET drop_ms = ended_ms + 600000; DROP INDEX IF EXISTS job_by_end;
                CREATE INDEX job_by_drop ON job (drop_ms)`);
  }
}
