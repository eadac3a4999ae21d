/** Catalog: the one Durable Object that knows every model that was ever registered, its price and its fallback policy. */
import { DurableObject } from 'cloudflare:workers';
import type { ModelCard } from '../../core/protocol.ts';
import type { PriceVersion } from '../api/accounts.ts';
import type { Outcome } from '../api/service.ts';
import type { Env } from '../env.ts';
import { defaultTariff } from '../env.ts';
import type { Tariff } from '../ledger/price.ts';
import { nextChangeMs, priceAt, refusalOfVersion } from '../ledger/price-book.ts';
import type { FallbackPolicy } from '../queue/policy.ts';

/** The name of the one object. */
export const CATALOG_NAME = 'catalog';

/** A price may be set before a worker brings the model, so prices are a table of their own; `price` is what it was before versions. */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS model (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, card TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS price (model TEXT PRIMARY KEY, tariff TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fallback (model TEXT PRIMARY KEY, policy TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS price_version (model TEXT NOT NULL, effective_from_ms INTEGER NOT NULL, tariff TEXT NOT NULL,
  PRIMARY KEY (model, effective_from_ms)) WITHOUT ROWID;
INSERT OR IGNORE INTO price_version SELECT model, 0, tariff FROM price;
DELETE FROM price;
`;

export interface CatalogEntry {
  card: ModelCard;
  tariff: Tariff;
  fallback: FallbackPolicy;
  /** When another tariff begins to hold; null when none is planned. */
  nextTariffMs: number | null;
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
    const [prices, nowMs] = [this.prices(parsed.id), Date.now()];
    const tariff = priceAt(prices, nowMs) ?? defaultTariff(this.env);
    const fallback = (this.#text('SELECT policy AS text FROM fallback WHERE model = ?', parsed.id) ??
      'never') as FallbackPolicy;
    return { card: parsed, tariff, fallback, nextTariffMs: nextChangeMs(prices, nowMs) };
  }

  /** `card` is the fallback's own: it makes the model known where no worker has brought it. */
  setFallback(id: string, policy: FallbackPolicy, card: ModelCard | null): void {
    this.#sql.exec('INSERT OR REPLACE INTO fallback VALUES (?, ?)', id, policy);
    if (card !== null && this.#text('SELECT id AS text FROM model WHERE id = ?', id) === null) this.register(card);
  }

  /** Forgets a model, its price and its fallback; false when it was unknown. A worker that says hello brings the model back. */
  remove(id: string): boolean {
    const { rowsWritten } = this.#sql.exec('DELETE FROM model WHERE id = ?', id);
    this.#sql.exec('DELETE FROM price_version WHERE model = ?', id);
    this.#sql.exec('DELETE FROM fallback WHERE model = ?', id);
    return rowsWritten > 0;
  }

  /** Every version, the oldest first. */
  prices(id: string): PriceVersion[] {
    const query = 'SELECT tariff, effective_from_ms FROM price_version WHERE model = ? ORDER BY effective_from_ms';
    const rows = this.#sql.exec<{ tariff: string; effective_from_ms: number }>(query, id).toArray();
    return rows.map((row) => ({ ...JSON.parse(row.tariff), effectiveFromMs: row.effective_from_ms }));
  }

  /**
   * Holds for requests admitted from `effectiveFromMs` on (null: from now, and a few seconds later where an edge isolate remembers the
   * card). A version that is to begin later can be replaced; one that has begun can only be followed.
   */
  setPrice(id: string, price: Tariff, effectiveFromMs: number | null = null): Outcome<PriceVersion> {
    const [prices, nowMs] = [this.prices(id), Date.now()];
    const held = priceAt(prices, nowMs)?.effectiveFromMs ?? 0;
    // Seconds are what is asked in: the one that runs now is not past.
    const isNow = effectiveFromMs === null || Math.floor(effectiveFromMs / 1000) === Math.floor(nowMs / 1000);
    const version = { ...price, effectiveFromMs: isNow ? Math.max(nowMs, held + 1) : effectiveFromMs };
    const failure = refusalOfVersion(prices, version, nowMs);
    if (failure !== null) return { ok: false, failure };
    const { effectiveFromMs: fromMs, ...tariff } = version;
    this.#sql.exec('INSERT OR REPLACE INTO price_version VALUES (?, ?, ?)', id, fromMs, JSON.stringify(tariff));
    return { ok: true, value: version };
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
