/** Administration: what an operator, or an account's own administrator, may do with an account's object. Every change is in its audit log. */
import { DurableObject } from 'cloudflare:workers';
import type {
  AccountSettings,
  AccountView,
  AuditEntry,
  Budget,
  BudgetState,
  Credit,
  Delivery,
  KeySettings,
  KeyState,
  KeyView,
  Limits,
  LogPage,
  Placed,
  Reset,
  Webhook,
  WebhookEvent,
} from '../api/accounts.ts';
import type { Outcome } from '../api/service.ts';
import { randomBase62 } from '../auth.ts';
import type { Env } from '../env.ts';
import type { Spending } from './budget.ts';
import { NOTHING_SPENT, resetsMs, rolled, spendingOf, spentPico } from './budget.ts';
import { ExportStore } from './export-storage.ts';
import { IdempotencyStore } from './idempotency-storage.ts';
import type { KeyIdentity } from './key.ts';
import { KeyStore } from './key-storage.ts';
import { fullBuckets, resized } from './limits.ts';
import { prepare } from './schema.ts';
import type { Account } from './storage.ts';
import { LedgerStore } from './storage.ts';
import { Ledger } from './usage-query.ts';
import { newSecret } from './webhook.ts';
import { WebhookStore } from './webhook-storage.ts';

/** An event goes to each. */
const MAX_WEBHOOKS = 20;
/** Bounds one answer of the object. */
const MAX_KEYS = 10_000;

export abstract class AccountAdministration extends DurableObject<Env> {
  protected readonly store: LedgerStore;
  protected readonly keys: KeyStore;
  protected readonly ledger: Ledger;
  protected readonly webhooks: WebhookStore;
  protected readonly exports: ExportStore;
  protected readonly idempotency: IdempotencyStore;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    prepare(ctx.storage.sql);
    this.store = new LedgerStore(ctx.storage.sql);
    this.keys = new KeyStore(ctx.storage.sql);
    this.ledger = new Ledger(ctx.storage.sql);
    this.webhooks = new WebhookStore(ctx.storage.sql);
    this.exports = new ExportStore(ctx.storage.sql);
    this.idempotency = new IdempotencyStore(ctx.storage.sql);
  }

  create(accountId: string, settings: AccountSettings, creditPico: bigint, actor: string): Outcome<null> {
    if (this.store.account() !== null) return conflict('The account exists already.');
    const nowMs = Date.now();
    this.ctx.storage.transactionSync(() => {
      this.store.insertAccount(accountId);
      this.store.updateAccount({
        accountId,
        ...settings,
        creditPico,
        spentPico: 0n,
        reservedPico: 0n,
        buckets: fullBuckets(settings.limits, nowMs),
        spending: NOTHING_SPENT,
        creditTold: false,
      });
      const opening = { reference: 'opening', pico: creditPico, note: null, actor, createdMs: nowMs };
      if (creditPico > 0n) this.store.insertCredit(opening);
      this.#audit(actor, 'account.create', accountId, { ...settings, creditPico });
    });
    return done;
  }

  configure(
    changes: Partial<Omit<AccountSettings, 'limits'>> & { limits?: Partial<Limits> },
    actor: string,
  ): Outcome<null> {
    const account = this.store.account();
    if (account === null) return unknownAccount;
    const nowMs = Date.now();
    const settings = { ...account, ...changes, limits: { ...account.limits, ...changes.limits } };
    const buckets = resized(account.buckets, account.limits, settings.limits, nowMs);
    const spending =
      changes.budget === undefined
        ? account.spending
        : this.#spendingUnder(changes.budget, account.budget, account.spending, account.reservedPico, null, nowMs);
    this.ctx.storage.transactionSync(() => {
      // What was used until now is the old customer's, and of what was used before there was one nothing is reported.
      if (settings.stripeCustomer !== account.stripeCustomer) {
        this.planMeterEvents(account);
        this.exports.setCursor('stripe', this.ledger.lastSeq(), null);
      }
      this.store.updateAccount({ ...settings, buckets, spending });
      this.#audit(actor, 'account.update', account.accountId, changes);
    });
    return done;
  }

  /** Adds credit, once for a reference. The same reference with another amount is a conflict. */
  topUp(pico: bigint, reference: string, note: string | null, actor: string): Outcome<null> {
    const account = this.store.account();
    if (account === null) return unknownAccount;
    const known = this.store.credit(reference);
    if (known !== null)
      return known.pico === pico ? done : conflict(`The reference "${reference}" was used for another amount.`);
    this.ctx.storage.transactionSync(() => {
      this.store.insertCredit({ reference, pico, note, actor, createdMs: Date.now() });
      this.store.updateAccount({ ...account, creditPico: account.creditPico + pico, creditTold: false });
      this.#audit(actor, 'credit.add', account.accountId, { reference, pico, note });
    });
    return done;
  }

  credits(page: LogPage): Outcome<Placed<Credit>[]> {
    return this.store.account() === null ? unknownAccount : { ok: true, value: this.store.credits(page) };
  }

  auditLog(page: LogPage): Outcome<Placed<AuditEntry>[]> {
    return this.store.account() === null ? unknownAccount : { ok: true, value: this.keys.auditLog(page) };
  }

  createKey(identity: KeyIdentity, settings: KeySettings, actor: string): Outcome<KeyView> {
    if (this.store.account() === null) return unknownAccount;
    if (this.keys.find(identity.keyId) !== null) return conflict('The key exists already.');
    if (this.keys.list().length >= MAX_KEYS) return conflict(`The account has ${MAX_KEYS} keys already.`);
    this.ctx.storage.transactionSync(() => {
      this.keys.insert(identity, settings, identity.keyId, Date.now());
      this.#audit(actor, 'key.create', identity.keyId, settings);
    });
    return { ok: true, value: this.#view(this.keys.find(identity.keyId)!) };
  }

  listKeys(): Outcome<KeyView[]> {
    if (this.store.account() === null) return unknownAccount;
    return { ok: true, value: this.keys.list().map((key) => this.#view(key)) };
  }

  findKey(keyId: string): Outcome<KeyView> {
    const key = this.keys.find(keyId);
    return key === null ? unknownKey : { ok: true, value: this.#view(key) };
  }

  /** Limits and budget are changed for the key's whole line. */
  updateKey(keyId: string, changes: Partial<KeySettings>, actor: string): Outcome<KeyView> {
    const key = this.keys.find(keyId);
    if (key === null) return unknownKey;
    const nowMs = Date.now();
    this.ctx.storage.transactionSync(() => {
      this.keys.update(keyId, { ...key, ...changes });
      const { budget = key.budget, limits = key.limits } = changes;
      this.keys.updateLine(key.line, { budget, limits });
      const state = this.keys.lineState(key.line);
      const reservedPico = this.store.reservedPico(key.line);
      const spending =
        changes.budget === undefined
          ? state.spending
          : this.#spendingUnder(budget, key.budget, state.spending, reservedPico, key.line, nowMs);
      // New limits begin full: what a key may have used up is a minute's worth.
      const buckets = changes.limits === undefined ? state.buckets : null;
      if (budget !== null || limits !== null) this.keys.setLineState(key.line, { buckets, spending });
      this.#audit(actor, 'key.update', keyId, changes);
    });
    return { ok: true, value: this.#view(this.keys.find(keyId)!) };
  }

  /** A new key with the old one's settings and what it has left. The old one ends after `overlapMs`. */
  rotateKey(keyId: string, identity: KeyIdentity, overlapMs: number, actor: string): Outcome<KeyView> {
    const key = this.keys.find(keyId);
    if (key === null) return unknownKey;
    const nowMs = Date.now();
    if (key.revokedMs !== null || (key.expiresMs !== null && key.expiresMs <= nowMs))
      return conflict('The key has ended; make a new one.');
    this.ctx.storage.transactionSync(() => {
      this.keys.insert(identity, key, key.line, nowMs);
      const endMs = nowMs + overlapMs;
      this.#audit(actor, 'key.rotate', keyId, { to: identity.keyId, overlapMs });
      if (overlapMs > 0)
        this.keys.update(keyId, { ...key, expiresMs: key.expiresMs === null ? endMs : Math.min(key.expiresMs, endMs) });
      else if (this.keys.revoke(keyId, nowMs)) this.keyRevoked(key);
    });
    return { ok: true, value: this.#view(this.keys.find(identity.keyId)!) };
  }

  /** Holds at once: every request asks this object, and there is no cache. */
  revokeKey(keyId: string, actor: string): Outcome<null> {
    const key = this.keys.find(keyId);
    if (key === null) return unknownKey;
    this.ctx.storage.transactionSync(() => {
      if (!this.keys.revoke(keyId, Date.now())) return;
      this.#audit(actor, 'key.revoke', keyId, {});
      this.keyRevoked(key);
    });
    return done;
  }

  view(): Outcome<AccountView> {
    const account = this.store.account();
    if (account === null) return unknownAccount;
    const { accountId, name, billing, limits, budget, stripeCustomer, creditPico, spentPico, reservedPico } = account;
    const money = { creditPico, spentPico, reservedPico };
    const budgetState = budget === null ? null : budgetStateOf(budget, account.spending, Date.now());
    return {
      ok: true,
      value: { accountId, name, billing, limits, budget, stripeCustomer, ...money, budgetState },
    };
  }

  createWebhook(url: string, events: WebhookEvent[], actor: string): Outcome<{ webhook: Webhook; secret: string }> {
    const account = this.store.account();
    if (account === null) return unknownAccount;
    if (this.webhooks.list().length >= MAX_WEBHOOKS)
      return conflict(`The account has ${MAX_WEBHOOKS} webhooks already.`);
    const webhook = { id: randomBase62(12), url, events, createdMs: Date.now() };
    const secret = newSecret();
    this.ctx.storage.transactionSync(() => {
      this.webhooks.insert(webhook, secret);
      this.#audit(actor, 'webhook.create', webhook.id, { url, events });
    });
    return { ok: true, value: { webhook, secret } };
  }

  /** Feeds the reporting copy again with the rows after a place; those that it has stay as they are. Says the last row's. */
  exportAgain(after: number, actor: string): Outcome<{ last: number }> {
    const account = this.store.account();
    if (account === null) return unknownAccount;
    this.ctx.storage.transactionSync(() => {
      this.reportAgain(after);
      this.#audit(actor, 'export.again', account.accountId, { after });
    });
    return { ok: true, value: { last: this.ledger.lastSeq() } };
  }

  listWebhooks(): Outcome<Webhook[]> {
    return this.store.account() === null ? unknownAccount : { ok: true, value: this.webhooks.list() };
  }

  removeWebhook(id: string, actor: string): Outcome<null> {
    return this.ctx.storage.transactionSync(() => {
      if (!this.webhooks.remove(id)) return unknownWebhook;
      this.#audit(actor, 'webhook.delete', id, {});
      return done;
    });
  }

  deliveries(webhookId: string, limit: number): Outcome<Delivery[]> {
    if (!this.webhooks.list().some(({ id }) => id === webhookId)) return unknownWebhook;
    return { ok: true, value: this.webhooks.deliveries(webhookId, limit) };
  }

  /** Called in the transaction that revokes it. */
  protected abstract keyRevoked(key: KeyState): void;

  /** Writes down the meter events of every row that has none yet; for the customer that the account has. */
  protected abstract planMeterEvents(account: Account): void;

  /** Makes the exporter send the rows after a place once more. */
  protected abstract reportAgain(after: number): void;

  /** What counts as spent when a budget is set: under the same reset what was, under another what the ledger knows of the window. */
  #spendingUnder(
    budget: Budget | null,
    before: Budget | null,
    spending: Spending,
    reservedPico: bigint,
    line: string | null,
    nowMs: number,
  ): Spending {
    if (budget === null) return NOTHING_SPENT;
    if (before !== null && sameReset(before.reset, budget.reset))
      return { ...spending, told: { soft: false, hard: false } };
    if (budget.reset.kind === 'never') return { ...NOTHING_SPENT, reservedPico };
    const booked = this.ledger.settledSince(nowMs - windowAtMostMs(budget.reset));
    return { ...spendingOf(budget, line === null ? booked : this.#ofLine(line, booked)), reservedPico };
  }

  *#ofLine<Booked extends { keyId: string }>(line: string, booked: Iterable<Booked>): Iterable<Booked> {
    const ofLine = new Set(this.keys.list().flatMap((key) => (key.line === line ? [key.keyId] : [])));
    for (const entry of booked) if (ofLine.has(entry.keyId)) yield entry;
  }

  #view({ secretHash: _, ...key }: KeyState & { secretHash?: string }): KeyView {
    const spending = () => this.keys.lineState(key.line).spending;
    return { ...key, budgetState: key.budget === null ? null : budgetStateOf(key.budget, spending(), Date.now()) };
  }

  #audit(actor: string, action: string, target: string, detail: unknown): void {
    this.keys.audit({ createdMs: Date.now(), actor, action, target, detail });
  }
}

function budgetStateOf(budget: Budget, spending: Spending, nowMs: number): BudgetState {
  const now = rolled(budget, spending, nowMs);
  return { budget, spentPico: spentPico(now), reservedPico: now.reservedPico, resetsMs: resetsMs(budget, now, nowMs) };
}

function sameReset(left: Reset, right: Reset): boolean {
  return JSON.stringify(left) === JSON.stringify(right);
}

function windowAtMostMs(reset: Exclude<Reset, { kind: 'never' }>): number {
  return reset.kind === 'rolling' ? reset.windowS * 1000 : 31 * 86_400_000;
}

const done = { ok: true, value: null } as const;
export const unknownAccount = { ok: false, failure: { code: 'not_found', what: 'account' } } as const;
const unknownWebhook = { ok: false, failure: { code: 'not_found', what: 'webhook' } } as const;
const unknownKey = { ok: false, failure: { code: 'not_found', what: 'key' } } as const;

function conflict(reason: string) {
  return { ok: false, failure: { code: 'conflict', reason } } as const;
}
