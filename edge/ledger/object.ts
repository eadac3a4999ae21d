/** Account: the Durable Object that holds one account's keys, limits and money. Every path goes reserve → settle or release, once. */
import { DurableObject } from 'cloudflare:workers';
import type { Failure } from '../../core/errors.ts';
import type { AccountState, Metered, Outcome, Scope, UsageRow } from '../api/service.ts';
import { equalInConstantTime, randomBase62 } from '../auth.ts';
import type { Env } from '../env.ts';
import type { AdmitRequest, Admitted, KeyState, NewAccount, NewKey, SettleRequest } from './grant.ts';
import { GRANT_MS, refusalOf } from './grant.ts';
import { giveBack, limitHeaders, refill, take } from './limits.ts';
import { costPicoUsd, exactNumber } from './price.ts';
import type { Account } from './storage.ts';
import { LedgerStore } from './storage.ts';

/** Between the end of a grant and the question to the queue: clocks of two machines may differ. */
const CLOCK_MARGIN_MS = 5_000;
/** How long until a reservation is checked again that its queue knows, or whose queue did not answer. */
const CHECK_AGAIN_MS = 60_000;

export class AccountObject extends DurableObject<Env> {
  readonly #store: LedgerStore;
  /** When the alarm is set for, as far as this instance knows. */
  #alarmMs: number | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new LedgerStore(ctx.storage.sql);
  }

  create(account: NewAccount): Outcome<null> {
    if (this.#store.account() !== null) return conflict('The account exists already.');
    this.#store.insertAccount(account, Date.now());
    return { ok: true, value: null };
  }

  topUp(picoUsd: string): Outcome<null> {
    const account = this.#store.account();
    if (account === null) return unknownAccount;
    this.#store.updateAccount({ ...account, creditPico: account.creditPico + BigInt(picoUsd) });
    return { ok: true, value: null };
  }

  createKey(key: NewKey): Outcome<null> {
    if (this.#store.account() === null) return unknownAccount;
    if (this.#store.key(key.keyId) !== null) return conflict('The key exists already.');
    this.#store.insertKey(key, Date.now());
    return { ok: true, value: null };
  }

  listKeys(): Outcome<KeyState[]> {
    if (this.#store.account() === null) return unknownAccount;
    return { ok: true, value: this.#store.keys() };
  }

  /** Holds at once: every request asks this object, and there is no cache. */
  revokeKey(keyId: string): Outcome<null> {
    if (this.#store.key(keyId) === null) return { ok: false, failure: { code: 'not_found', what: 'key' } };
    this.#store.revokeKey(keyId, Date.now());
    return { ok: true, value: null };
  }

  /** Whether the key is known, live and has the scope (null: any scope will do). Returns the models it may use; null means all. */
  authorize(keyId: string, secretHash: string, scope: Scope | null): Outcome<{ models: string[] | null }> {
    return this.#authorize(keyId, secretHash, { scope, model: null });
  }

  /** Everything that must hold before a request may run, and its reservation, in one step that nothing can come between. */
  admit(request: AdmitRequest): Metered<Admitted> {
    const authorized = this.#authorize(request.keyId, request.secretHash, { scope: 'client', model: request.model });
    if (!authorized.ok) return { ...authorized, headers: {} };
    const account = this.#store.account();
    if (account === null) return { ...unknownAccount, headers: {} };
    const nowMs = Date.now();
    const refused = (failure: Failure) => {
      const headers = limitHeaders(refill(account.buckets, account.limits, nowMs), account.limits);
      return { ok: false, failure, headers } as const;
    };
    const tokens = request.promptTokens + request.completionTokens;
    const taken = take(account.buckets, account.limits, this.#store.numReservations(), tokens, nowMs);
    if (taken.kind === 'refused')
      return refused({ code: 'rate_limited', limit: taken.limit, retryAfterS: taken.retryAfterS });
    const required = costPicoUsd(request.tariff, request.promptTokens, request.completionTokens);
    const available = account.creditPico - account.spentPico - account.reservedPico;
    if (available < required)
      return refused({
        code: 'budget_exceeded',
        requiredPicoUsd: required.toString(),
        availablePicoUsd: available.toString(),
      });
    const jobId = randomBase62(22);
    const checkMs = nowMs + GRANT_MS + CLOCK_MARGIN_MS;
    this.ctx.storage.transactionSync(() => {
      this.#store.insertReservation({ jobId, queue: request.queue, pico: required, tokens, checkMs });
      this.#store.updateAccount({
        ...account,
        reservedPico: account.reservedPico + required,
        buckets: taken.buckets,
      });
    });
    this.#wakeBy(checkMs);
    const grant = {
      jobId,
      accountId: account.accountId,
      keyId: request.keyId,
      model: request.model,
      createdMs: nowMs,
      expiresMs: nowMs + GRANT_MS,
      tariff: request.tariff,
      reservedPicoUsd: required.toString(),
      promptTokenLimit: request.promptTokens,
      completionTokenLimit: request.completionTokens,
    };
    return { ok: true, value: { grant, headers: limitHeaders(taken.buckets, account.limits) } };
  }

  /** Books ended jobs; a job that is booked already is left as it is. All of them hold when this returns. */
  settle(requests: SettleRequest[]): void {
    this.ctx.storage.transactionSync(() => {
      for (const request of requests) {
        if (this.#store.hasEntry(request.jobId)) continue;
        const cost = costPicoUsd(request.tariff, request.usage.promptTokens, request.usage.completionTokens);
        this.#store.insertEntry(request, cost);
        this.#close(request.jobId, cost, request.usage.promptTokens + request.usage.completionTokens);
      }
    });
  }

  /** Gives a reservation back whose job no queue took. Does nothing when it is settled or released already. */
  release(jobId: string): void {
    this.ctx.storage.transactionSync(() => this.#close(jobId, 0n, 0));
  }

  /** Newest first. */
  usage(query: { limit: number; requestId: string | null }): UsageRow[] {
    return this.#store.entries(query.limit, query.requestId).map((entry) => ({
      requestId: entry.jobId,
      createdS: Math.floor(entry.createdMs / 1000),
      model: entry.model,
      usage: {
        promptTokens: entry.promptTokens,
        cachedTokens: entry.cachedTokens,
        completionTokens: entry.completionTokens,
        costPicoUsd: exactNumber(entry.costPico),
      },
      status: entry.status,
      backend: entry.backend,
    }));
  }

  state(): Outcome<AccountState> {
    const account = this.#store.account();
    if (account === null) return unknownAccount;
    return {
      ok: true,
      value: {
        accountId: account.accountId,
        name: account.name,
        creditPicoUsd: account.creditPico.toString(),
        spentPicoUsd: account.spentPico.toString(),
        reservedPicoUsd: account.reservedPico.toString(),
      },
    };
  }

  /** Asks the queues about reservations past their grant, and releases those that no queue knows. */
  override async alarm(): Promise<void> {
    this.#alarmMs = null;
    const byQueue = Map.groupBy(this.#store.reservationsToCheck(Date.now()), (reservation) => reservation.queue);
    for (const [queue, reservations] of byQueue) {
      const jobIds = reservations.map((reservation) => reservation.jobId);
      let known: Set<string>;
      try {
        known = new Set(await this.env.QUEUE.getByName(queue).known(jobIds));
      } catch (error) {
        console.error({ event: 'queue_did_not_answer', queue, error: String(error) });
        known = new Set(jobIds);
      }
      for (const jobId of jobIds) {
        if (known.has(jobId)) this.#store.checkAgainAt(jobId, Date.now() + CHECK_AGAIN_MS);
        else this.release(jobId);
      }
    }
    const nextMs = this.#store.nextCheckMs();
    if (nextMs !== null) this.#wakeBy(nextMs);
  }

  #authorize(
    keyId: string,
    secretHash: string,
    wanted: { scope: Scope | null; model: string | null },
  ): Outcome<{ models: string[] | null }> {
    const key = this.#store.key(keyId);
    if (key === null || !equalInConstantTime(key.secretHash, secretHash))
      return { ok: false, failure: { code: 'invalid_key' } };
    const refusal = refusalOf(key, wanted, Date.now());
    return refusal === null ? { ok: true, value: { models: key.models } } : { ok: false, failure: refusal };
  }

  /** Ends a reservation, if there still is one: what it did not use goes back to budget and bucket. */
  #close(jobId: string, cost: bigint, usedTokens: number): void {
    const account = this.#store.account();
    if (account === null) throw new Error(`job ${jobId} belongs to an account that does not exist`);
    const reservation = this.#store.reservation(jobId);
    const closed: Account = { ...account, spentPico: account.spentPico + cost };
    if (reservation !== null) {
      this.#store.deleteReservation(jobId);
      closed.reservedPico -= reservation.pico;
      closed.buckets = giveBack(account.buckets, account.limits, reservation.tokens - usedTokens, Date.now());
    }
    this.#store.updateAccount(closed);
  }

  #wakeBy(timeMs: number): void {
    if (this.#alarmMs !== null && this.#alarmMs <= timeMs) return;
    this.#alarmMs = timeMs;
    this.ctx.storage.setAlarm(timeMs);
  }
}

const unknownAccount = { ok: false, failure: { code: 'not_found', what: 'account' } } as const;

function conflict(reason: string) {
  return { ok: false, failure: { code: 'conflict', reason } } as const;
}
