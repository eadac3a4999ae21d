/** Admin service: what the admin routes do, on the account, directory and catalog objects. */
import { describe } from '../core/errors.ts';
import type { ModelCard } from '../core/protocol.ts';
import type {
  AccountSettings,
  AccountView,
  Actor,
  AuditEntry,
  BucketQuery,
  BucketRow,
  Credit,
  Delivery,
  KeySettings,
  KeyView,
  Limits,
  LogPage,
  Placed,
  PriceVersion,
  RowQuery,
  UsageRow,
  Webhook,
  WebhookEvent,
} from './api/accounts.ts';
import type { AdminService, ListedAccount, NewPrice, ReportQuery, ReportSum } from './api/admin.ts';
import { type ModelLoad, sumOfShards } from './api/admin-metrics.ts';
import type { LedgerPage, LedgerRow, Page, QueuePage } from './api/books.ts';
import type { Metered, Outcome } from './api/service.ts';
import type { KeyRing } from './auth.ts';
import { bearer, isAdminKey, randomBase62 } from './auth.ts';
import type { CardCache } from './catalog/cache.ts';
import { CATALOG_NAME } from './catalog/object.ts';
import { DIRECTORY_NAME } from './directory/object.ts';
import type { Env } from './env.ts';
import { queueShards } from './env.ts';
import { DEFAULT_LIMITS } from './ledger/limits.ts';
import type { FallbackPolicy } from './queue/policy.ts';
import { queueName } from './queue/shards.ts';
import { Report } from './report/report.ts';

export class EdgeAdmin implements AdminService {
  readonly #env: Env;
  readonly #keys: KeyRing;
  readonly #cards: CardCache;

  constructor(env: Env, keys: KeyRing, cards: CardCache) {
    this.#env = env;
    this.#keys = keys;
    this.#cards = cards;
  }

  async authorize(
    authorization: string | undefined,
    clientIp: string | null,
    accountId: string | null,
  ): Promise<Metered<Actor>> {
    const given = bearer(authorization);
    if (await isAdminKey(this.#env.ADMIN_KEY, given)) return { ok: true, value: { kind: 'root' }, headers: {} };
    const caller = given === null ? null : await this.#keys.verify(given, clientIp);
    if (caller === null) return { ok: false, failure: { code: 'invalid_key' }, headers: {} };
    const { accountId: own, ...presented } = caller;
    // Asked also where the answer is no: a key that has ended is 401 everywhere.
    const authorized = await this.#env.ACCOUNT.getByName(own).authorize(presented, { scope: 'admin', model: null });
    if (!authorized.ok) return authorized;
    // The same answer whether or not there is such an account.
    if (accountId !== own) return { ok: false, failure: rootOnly, headers: authorized.headers };
    return { ...authorized, value: { kind: 'key', keyId: caller.keyId } };
  }

  async createAccount(
    settings: Omit<AccountSettings, 'limits'> & { limits: Partial<Limits> },
    creditPico: bigint,
    actor: Actor,
  ): Promise<Outcome<AccountView>> {
    const accountId = randomBase62(12);
    const limits = { ...DEFAULT_LIMITS, ...settings.limits };
    const account = this.#env.ACCOUNT.getByName(accountId);
    const created = await account.create(accountId, { ...settings, limits }, creditPico, nameOf(actor));
    if (!created.ok) return created;
    await this.#env.DIRECTORY.getByName(DIRECTORY_NAME).put(accountId, settings.name);
    return account.view();
  }

  async accounts(after: string | null, limit: number): Promise<Outcome<ListedAccount[]>> {
    return { ok: true, value: await this.#env.DIRECTORY.getByName(DIRECTORY_NAME).list(after, limit) };
  }

  async account(accountId: string): Promise<Outcome<AccountView>> {
    return isAccountId(accountId) ? this.#env.ACCOUNT.getByName(accountId).view() : unknownAccount;
  }

  async configure(
    accountId: string,
    changes: Partial<Omit<AccountSettings, 'limits'>> & { limits?: Partial<Limits> },
    actor: Actor,
  ): Promise<Outcome<AccountView>> {
    if (!isAccountId(accountId)) return unknownAccount;
    const configured = await this.#env.ACCOUNT.getByName(accountId).configure(changes, nameOf(actor));
    if (!configured.ok) return configured;
    if (changes.name !== undefined) await this.#env.DIRECTORY.getByName(DIRECTORY_NAME).put(accountId, changes.name);
    return this.account(accountId);
  }

  async topUp(
    accountId: string,
    credit: { pico: bigint; reference: string | null; note: string | null },
    actor: Actor,
  ): Promise<Outcome<AccountView>> {
    if (!isAccountId(accountId)) return unknownAccount;
    const { pico, reference, note } = credit;
    const added = await this.#env.ACCOUNT.getByName(accountId).topUp(
      pico,
      reference ?? randomBase62(22),
      note,
      nameOf(actor),
    );
    return added.ok ? this.account(accountId) : added;
  }

  async credits(accountId: string, page: LogPage): Promise<Outcome<Placed<Credit>[]>> {
    return isAccountId(accountId) ? this.#env.ACCOUNT.getByName(accountId).credits(page) : unknownAccount;
  }

  async auditLog(accountId: string, page: LogPage): Promise<Outcome<Placed<AuditEntry>[]>> {
    if (!isAccountId(accountId)) return unknownAccount;
    return (await this.#env.ACCOUNT.getByName(accountId).auditLog(page)) as Outcome<Placed<AuditEntry>[]>;
  }

  async createKey(
    accountId: string,
    settings: KeySettings,
    actor: Actor,
  ): Promise<Outcome<{ key: string; view: KeyView }>> {
    if (!isAccountId(accountId)) return unknownAccount;
    if (!mayDecide(actor, settings)) return { ok: false, failure: rootOnly };
    const { key, identity } = await this.#keys.mint(accountId);
    const created = await this.#env.ACCOUNT.getByName(accountId).createKey(identity, settings, nameOf(actor));
    return created.ok ? { ok: true, value: { key, view: created.value } } : created;
  }

  async keys(accountId: string): Promise<Outcome<KeyView[]>> {
    return isAccountId(accountId) ? this.#env.ACCOUNT.getByName(accountId).listKeys() : unknownAccount;
  }

  async updateKey(
    accountId: string,
    keyId: string,
    changes: Partial<KeySettings>,
    actor: Actor,
  ): Promise<Outcome<KeyView>> {
    const before = await this.#decidable(accountId, keyId, actor);
    if (!before.ok) return before;
    if (!mayDecide(actor, changes)) return { ok: false, failure: rootOnly };
    return this.#env.ACCOUNT.getByName(accountId).updateKey(keyId, changes, nameOf(actor));
  }

  async rotateKey(
    accountId: string,
    keyId: string,
    overlapMs: number,
    actor: Actor,
  ): Promise<Outcome<{ key: string; view: KeyView }>> {
    const before = await this.#decidable(accountId, keyId, actor);
    if (!before.ok) return before;
    const { key, identity } = await this.#keys.mint(accountId);
    const account = this.#env.ACCOUNT.getByName(accountId);
    const rotated = await account.rotateKey(keyId, identity, overlapMs, nameOf(actor));
    return rotated.ok ? { ok: true, value: { key, view: rotated.value } } : rotated;
  }

  async revokeKey(accountId: string, keyId: string, actor: Actor): Promise<Outcome<null>> {
    const before = await this.#decidable(accountId, keyId, actor);
    return before.ok ? this.#env.ACCOUNT.getByName(accountId).revokeKey(keyId, nameOf(actor)) : before;
  }

  async usage(accountId: string, query: RowQuery): Promise<Outcome<UsageRow[]>> {
    const account = await this.account(accountId);
    if (!account.ok) return account;
    return { ok: true, value: await this.#env.ACCOUNT.getByName(accountId).usageRows(query) };
  }

  async usageBuckets(accountId: string, query: BucketQuery): Promise<Outcome<BucketRow[]>> {
    const account = await this.account(accountId);
    if (!account.ok) return account;
    return { ok: true, value: await this.#env.ACCOUNT.getByName(accountId).usageBuckets(query) };
  }

  async createWebhook(
    accountId: string,
    { url, events }: { url: string; events: WebhookEvent[] },
    actor: Actor,
  ): Promise<Outcome<{ webhook: Webhook; secret: string }>> {
    if (!isAccountId(accountId)) return unknownAccount;
    return this.#env.ACCOUNT.getByName(accountId).createWebhook(url, events, nameOf(actor));
  }

  async webhooks(accountId: string): Promise<Outcome<Webhook[]>> {
    return isAccountId(accountId) ? this.#env.ACCOUNT.getByName(accountId).listWebhooks() : unknownAccount;
  }

  async removeWebhook(accountId: string, webhookId: string, actor: Actor): Promise<Outcome<null>> {
    if (!isAccountId(accountId)) return unknownAccount;
    return this.#env.ACCOUNT.getByName(accountId).removeWebhook(webhookId, nameOf(actor));
  }

  async deliveries(accountId: string, webhookId: string, limit: number): Promise<Outcome<Delivery[]>> {
    if (!isAccountId(accountId)) return unknownAccount;
    return this.#env.ACCOUNT.getByName(accountId).deliveries(webhookId, limit);
  }

  async report(query: ReportQuery): Promise<Outcome<ReportSum[]>> {
    if (this.#env.REPORTS === undefined)
      return { ok: false, failure: { code: 'not_configured', reason: 'there is no D1 database bound as REPORTS' } };
    return { ok: true, value: await new Report(this.#env.REPORTS).sums(query) };
  }

  async setPrice(
    model: string,
    promptMicroUsdPerMtok: number,
    completionMicroUsdPerMtok: number,
  ): Promise<Outcome<null>> {
    const set = await this.addPrice(model, { promptMicroUsdPerMtok, completionMicroUsdPerMtok, effectiveFromMs: null });
    return set.ok ? { ok: true, value: null } : set;
  }

  async addPrice(model: string, { effectiveFromMs, ...price }: NewPrice): Promise<Outcome<PriceVersion>> {
    const set = await this.#env.CATALOG.getByName(CATALOG_NAME).setPrice(model, price, effectiveFromMs);
    this.#cards.forget();
    return set;
  }

  async prices(model: string): Promise<Outcome<PriceVersion[]>> {
    return { ok: true, value: await this.#env.CATALOG.getByName(CATALOG_NAME).prices(model) };
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

  async loads(): Promise<ModelLoad[]> {
    const cards = await this.#env.CATALOG.getByName(CATALOG_NAME).list();
    const shards = Array.from({ length: queueShards(this.#env) }, (_, shard) => shard);
    return Promise.all(
      cards.map(async ({ id }) => {
        const loads = shards.map((shard) => this.#env.QUEUE.getByName(queueName(id, shard)).load());
        return { model: id, ...sumOfShards(await Promise.all(loads)) };
      }),
    );
  }

  async queueJobs(model: string, shard: number, { after, limit }: Page): Promise<Outcome<QueuePage>> {
    const jobs = await this.#env.QUEUE.getByName(queueName(model, shard)).jobs(after, limit);
    return { ok: true, value: { jobs, shards: queueShards(this.#env) } };
  }

  async ledger(accountId: string, { after, limit }: Page): Promise<Outcome<LedgerPage>> {
    const account = await this.account(accountId);
    if (!account.ok) return account;
    return { ok: true, value: await this.#env.ACCOUNT.getByName(accountId).ledgerPage(after, limit) };
  }

  async exported(accountId: string, page: Page): Promise<Outcome<LedgerRow[]>> {
    if (!isAccountId(accountId)) return unknownAccount;
    if (this.#env.REPORTS === undefined)
      return { ok: false, failure: { code: 'not_configured', reason: 'there is no D1 database bound as REPORTS' } };
    return { ok: true, value: await new Report(this.#env.REPORTS).rows(accountId, page) };
  }

  async exportAgain(accountId: string, after: number, actor: Actor): Promise<Outcome<{ last: number }>> {
    if (!isAccountId(accountId)) return unknownAccount;
    if (this.#env.USAGE_QUEUE === undefined)
      return { ok: false, failure: { code: 'not_configured', reason: 'there is no queue bound as USAGE_QUEUE' } };
    return this.#env.ACCOUNT.getByName(accountId).exportAgain(after, nameOf(actor));
  }

  /** A key that this actor may change: a worker's is the operator's alone. */
  async #decidable(accountId: string, keyId: string, actor: Actor): Promise<Outcome<null>> {
    if (!isAccountId(accountId)) return unknownAccount;
    const found = await this.#env.ACCOUNT.getByName(accountId).findKey(keyId);
    if (!found.ok) return found;
    return mayDecide(actor, found.value) ? { ok: true, value: null } : { ok: false, failure: rootOnly };
  }
}

/** A worker sees every account's prompts for its models, so no account makes its own workers. */
function mayDecide(actor: Actor, { scopes }: { scopes?: readonly string[] }): boolean {
  return actor.kind === 'root' || scopes === undefined || !scopes.includes('worker');
}

function nameOf(actor: Actor): string {
  return actor.kind === 'root' ? 'root' : actor.keyId;
}

/** Other names would make an object, and its storage, for nothing. */
function isAccountId(id: string): boolean {
  return /^[0-9A-Za-z]{12}$/.test(id);
}

const rootOnly = { code: 'scope_missing', scope: 'root' } as const;
const unknownAccount = { ok: false, failure: { code: 'not_found', what: 'account' } } as const;
