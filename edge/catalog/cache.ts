/** Card cache: what an edge isolate remembers of the catalog, for a moment. */
import type { Env } from '../env.ts';
import type { CatalogEntry } from './object.ts';
import { CATALOG_NAME } from './object.ts';

/** How late a changed card or price may reach an isolate. It saves a hop to one object that every request would share. */
const TTL_MS = 2_000;

export class CardCache {
  readonly #env: Env;
  readonly #entries = new Map<string | null, { entry: CatalogEntry; untilMs: number }>();

  constructor(env: Env) {
    this.#env = env;
  }

  /** null asks for the default model. An unknown model is always asked for again, so that a new one is seen at once. */
  async get(id: string | null): Promise<CatalogEntry | null> {
    const cached = this.#entries.get(id);
    if (cached !== undefined && cached.untilMs > Date.now()) return cached.entry;
    const entry = await this.#env.CATALOG.getByName(CATALOG_NAME).get(id);
    if (entry === null) this.#entries.delete(id);
    else
      this.#entries.set(id, {
        entry,
        untilMs: Math.min(Date.now() + TTL_MS, entry.nextTariffMs ?? Number.POSITIVE_INFINITY),
      });
    return entry;
  }

  /** After a change that this isolate made itself. */
  forget(): void {
    this.#entries.clear();
  }
}
