/** Directory: the one Durable Object that knows which accounts there are; everything else about one is in its own object. */
import { DurableObject } from 'cloudflare:workers';
import type { Env } from '../env.ts';

/** The name of the one object. */
export const DIRECTORY_NAME = 'directory';

/** `account`: id, name and when it was opened. */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS account (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, created_ms INTEGER NOT NULL);
`;

export interface Listed {
  accountId: string;
  name: string;
  createdMs: number;
}

export class DirectoryObject extends DurableObject<Env> {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(SCHEMA);
  }

  /** Adds an account, or gives one another name. */
  put(accountId: string, name: string): void {
    this.#sql.exec(
      'INSERT INTO account (id, name, created_ms) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name',
      accountId,
      name,
      Date.now(),
    );
  }

  /** In the order they were opened, those after the account `after`. */
  list(after: string | null, limit: number): Listed[] {
    const query = `SELECT id, name, created_ms FROM account
      WHERE seq > COALESCE((SELECT seq FROM account WHERE id = ?), 0) ORDER BY seq LIMIT ?`;
    return this.#sql
      .exec<{ id: string; name: string; created_ms: number }>(query, after, limit)
      .toArray()
      .map((row) => ({ accountId: row.id, name: row.name, createdMs: row.created_ms }));
  }
}
