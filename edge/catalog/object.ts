/** Catalog: the one Durable Object that knows every model that was ever registered, its price and its fallback policy. */
import { DurableObject } from 'cloudflare:workers';
import type { ModelCard } from '../../core/protocol.ts';
import type { Env } from '../env.ts';
import { defaultTariff } from '../env.ts';
import type { Tariff } from '../ledger/price.ts';
import type { FallbackPolicy } from '../queue/policy.ts';

/** The name of the one object. */
export const CATALOG_NAME = 'catalog';

/** A price may be set before a worker brings the model, so prices are a table of their own. */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS model (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, card TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS price (model TEXT PRIMARY KEY, tariff TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fallback (model TEXT PRIMARY KEY, policy TEXT NOT NULL);
`;

export interface CatalogEntry {
  card: ModelCard;
  tariff: Tariff;
  fallback: FallbackPolicy;
}

export class CatalogObject extends DurableObject<Env> {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(SCHEMA);
  }

  /** A worker's card of its model; the newest holds. */
  register(card: ModelCard): void {
    const json = JSON.stringify(card);
    const known = this.#text('SELECT card AS text FROM model WHERE id = ?', card.id);
    if (known === json) return;
    if (known === null) this.#sql.exec('INSERT INTO model VALUES (NULL, ?, ?)', card.id, json);
    else this.#sql.exec('UPDATE model SET card = ? WHERE id = ?', json, card.id);
  }

  /** The default model first, then in the order they came. */
  list(): ModelCard[] {
    const rows = this.#sql.exec<{ card: string }>('SELECT card FROM model ORDER BY id <> ?, seq', this.#default());
    return rows.toArray().map((row) => JSON.parse(row.card));
  }

  /** null asks for the default model; the answer null means there is no such model. */
  get(id: string | null): CatalogEntry | null {
    const card = this.#text('SELECT card AS text FROM model WHERE id = ?', id ?? this.#default());
    if (card === null) return null;
    const parsed: ModelCard = JSON.parse(card);
    const tariff = this.#text('SELECT tariff AS text FROM price WHERE model = ?', parsed.id);
    const fallback = (this.#text('SELECT policy AS text FROM fallback WHERE model = ?', parsed.id) ??
      'never') as FallbackPolicy;
    return { card: parsed, tariff: tariff === null ? defaultTariff(this.env) : JSON.parse(tariff), fallback };
  }

  /** `card` is the fallback's own: it makes the model known where no worker has brought it. */
  setFallback(id: string, policy: FallbackPolicy, card: ModelCard | null): void {
    this.#sql.exec('INSERT OR REPLACE INTO fallback VALUES (?, ?)', id, policy);
    if (card !== null && this.#text('SELECT id AS text FROM model WHERE id = ?', id) === null) this.register(card);
  }

  /** Forgets a model, its price and its fallback; false when it was unknown. A worker that says hello brings the model back. */
  remove(id: string): boolean {
    const { rowsWritten } = this.#sql.exec('DELETE FROM model WHERE id = ?', id);
    this.#sql.exec('DELETE FROM price WHERE model = ?', id);
    this.#sql.exec('DELETE FROM fallback WHERE model = ?', id);
    return rowsWritten > 0;
  }

  /** Holds for requests admitted from now on (and a few seconds later where an edge isolate remembers the card). */
  setPrice(id: string, tariff: Tariff): void {
    this.#sql.exec('INSERT OR REPLACE INTO price VALUES (?, ?)', id, JSON.stringify(tariff));
  }

  #default(): string {
    const configured = this.env.DEFAULT_MODEL;
    if (configured !== undefined && configured !== '') return configured;
    return this.#text('SELECT id AS text FROM model ORDER BY seq LIMIT 1') ?? '';
  }

  #text(query: string, ...bindings: SqlStorageValue[]): string | null {
    return this.#sql.exec<{ text: string }>(query, ...bindings).toArray()[0]?.text ?? null;
  }
}
