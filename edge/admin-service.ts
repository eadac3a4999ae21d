/** Admin service: what the admin routes do, on the account and catalog objects. */
import { describe } from '../core/errors.ts';
import type { ModelCard } from '../core/protocol.ts';
import type { AccountKey, AdminService, NewKey, RateLimits } from './api/admin.ts';
import type { AccountState, Outcome } from './api/service.ts';
import type { KeyRing } from './auth.ts';
import { bearer, isAdminKey, randomBase62 } from './auth.ts';
import type { CardCache } from './catalog/cache.ts';
import { CATALOG_NAME } from './catalog/object.ts';
import type { Env } from './env.ts';
import { DEFAULT_LIMITS } from './ledger/limits.ts';
import { picoUsdOf } from './ledger/price.ts';
import type { FallbackPolicy } from './queue/policy.ts';

export class EdgeAdmin implements AdminService {
  readonly #env: Env;
  readonly #keys: KeyRing;
  readonly #cards: CardCache;

  constructor(env: Env, keys: KeyRing, cards: CardCache) {
    this.#env = env;
    this.#keys = keys;
    this.#cards = cards;
  }

  isAdmin(authorization: string | undefined): Promise<boolean> {
    return isAdminKey(this.#env.ADMIN_KEY, bearer(authorization));
  }

  async createAccount(name: string, creditUsd: string, limits: Partial<RateLimits>): Promise<Outcome<AccountState>> {
    const credit = picoUsdOf(creditUsd);
    if (credit === null) return notAnAmount;
    const accountId = randomBase62(12);
    const created = await this.#env.ACCOUNT.getByName(accountId).create({
      accountId,
      name,
      creditPicoUsd: credit.toString(),
      limits: { ...DEFAULT_LIMITS, ...limits },
    });
    return created.ok ? this.account(accountId) : created;
  }

  async account(accountId: string): Promise<Outcome<AccountState>> {
    return isAccountId(accountId) ? this.#env.ACCOUNT.getByName(accountId).state() : unknownAccount;
  }

  async topUp(accountId: string, creditUsd: string): Promise<Outcome<AccountState>> {
    const credit = picoUsdOf(creditUsd);
    if (credit === null) return notAnAmount;
    if (!isAccountId(accountId)) return unknownAccount;
    const added = await this.#env.ACCOUNT.getByName(accountId).topUp(credit.toString());
    return added.ok ? this.account(accountId) : added;
  }

  async createKey(accountId: string, key: NewKey): Promise<Outcome<{ key: string; keyId: string }>> {
    if (!isAccountId(accountId)) return unknownAccount;
    const minted = await this.#keys.mint(accountId);
    const { keyId, secretHash } = minted.caller;
    const { name, scopes, models, expiresS } = key;
    const created = await this.#env.ACCOUNT.getByName(accountId).createKey({
      keyId,
      secretHash,
      name,
      scopes,
      models,
      expiresMs: expiresS === null ? null : expiresS * 1000,
    });
    return created.ok ? { ok: true, value: { key: minted.key, keyId } } : created;
  }

  async keys(accountId: string): Promise<Outcome<AccountKey[]>> {
    if (!isAccountId(accountId)) return unknownAccount;
    const listed = await this.#env.ACCOUNT.getByName(accountId).listKeys();
    if (!listed.ok) return listed;
    const seconds = (ms: number | null) => (ms === null ? null : Math.floor(ms / 1000));
    return {
      ok: true,
      value: listed.value.map(({ keyId, name, scopes, models, createdMs, expiresMs, revokedMs }) => ({
        keyId,
        name,
        scopes,
        models,
        createdS: Math.floor(createdMs / 1000),
        expiresS: seconds(expiresMs),
        revokedS: seconds(revokedMs),
      })),
    };
  }

  async revokeKey(accountId: string, keyId: string): Promise<Outcome<null>> {
    return isAccountId(accountId) ? this.#env.ACCOUNT.getByName(accountId).revokeKey(keyId) : unknownAccount;
  }

  async setPrice(
    model: string,
    promptMicroUsdPerMtok: number,
    completionMicroUsdPerMtok: number,
  ): Promise<Outcome<null>> {
    await this.#env.CATALOG.getByName(CATALOG_NAME).setPrice(model, {
      promptMicroUsdPerMtok,
      completionMicroUsdPerMtok,
    });
    this.#cards.forget();
    return { ok: true, value: null };
  }

  async setFallback(model: string, policy: FallbackPolicy): Promise<Outcome<null>> {
    const described = policy === 'never' ? null : await this.#describeFallback(model);
    if (described !== null && !described.ok) return described;
    await this.#env.CATALOG.getByName(CATALOG_NAME).setFallback(model, policy, described?.value ?? null);
    this.#cards.forget();
    return { ok: true, value: null };
  }

  /** Whoever has the root credential may read why a model's files do not do. */
  async #describeFallback(model: string): Promise<Outcome<ModelCard>> {
    const refused = (reason: string): Outcome<ModelCard> => ({
      ok: false,
      failure: { code: 'invalid_request', param: 'fallback', reason },
    });
    if (this.#env.FALLBACK === undefined)
      return refused('This edge has no fallback: deploy edge/fallback and bind it as FALLBACK.');
    const described = await this.#env.FALLBACK.getByName(model).describe(model);
    return described.ok ? described : refused(describe(described.failure));
  }

  async removeModel(model: string): Promise<Outcome<null>> {
    const removed = await this.#env.CATALOG.getByName(CATALOG_NAME).remove(model);
    this.#cards.forget();
    return removed ? { ok: true, value: null } : { ok: false, failure: { code: 'not_found', what: 'model' } };
  }
}

/** Other names would make an object, and its storage, for nothing. */
function isAccountId(id: string): boolean {
  return /^[0-9A-Za-z]{12}$/.test(id);
}

const unknownAccount = { ok: false, failure: { code: 'not_found', what: 'account' } } as const;
const notAnAmount = {
  ok: false,
  failure: {
    code: 'invalid_request',
    param: 'credit_usd',
    reason:
      'credit_usd must be decimal dollars with at most 9 digits before the point and 12 after it, such as "5.25".',
  },
} as const;
