/** Account: the Durable Object that holds one account's keys, limits and money. Every path goes reserve → settle or release, once. */
import type { Failure } from '../../core/errors.ts';
import type { BucketQuery, BucketRow, KeyState, RowQuery, UsageRow, WebhookEvent } from '../api/accounts.ts';
import type { LedgerPage } from '../api/books.ts';
import type { Idempotency, Metered, Outcome } from '../api/service.ts';
import { decimalUsd } from '../api/usd.ts';
import { equalInConstantTime, randomBase62 } from '../auth.ts';
import { Turn } from '../turn.ts';
import { AccountAdministration, unknownAccount } from './administration.ts';
import type { Line, News } from './admit.ts';
import { decide, metersOf } from './admit.ts';
import { Closing } from './closing.ts';
import { deliver } from './deliver.ts';
import { Exporter } from './exporter.ts';
import type { AdmitRequest, Admitted, Grant, Presented, SettleRequest } from './grant.ts';
import { GRANT_MS } from './grant.ts';
import { keepUntilMs } from './idempotency-storage.ts';
import type { Wanted } from './key.ts';
import { refusalOf } from './key.ts';
import { limitHeaders } from './limits.ts';
import { costAtMostPicoUsd } from './price.ts';
import type { Account, Reservation } from './storage.ts';

/** Between the end of a grant and the question to the queue: clocks of two machines may differ. */
const CLOCK_MARGIN_MS = 5_000;
/** How long until a reservation is checked again that its queue knows, or whose queue did not answer. */
const CHECK_AGAIN_MS = 60_000;

/** What a key that was let through may do. */
export interface Authorized {
  models: string[] | null;
}

export class AccountObject extends AccountAdministration {
  readonly #exporter = new Exporter(this.ctx.storage, this.env, this.store, this.ledger, this.exports, (timeMs) =>
    this.wakeBy(timeMs),
  );
  readonly #closing = new Closing(this.store, this.keys, this.idempotency, (news, account, key) =>
    this.#tell(news, account, key),
  );
  readonly #turn = new Turn();
  /** How many requests are under way, about: a write that is undone is not seen. */
  #numOpen = this.store.numReservations(null);
  /** When the alarm is set for; null: this instance does not know. */
  #alarmMs: number | null = null;

  /** Whether the key is known, live, used from where it may be, and has the scope. The headers say what is left of its limits. */
  authorize(presented: Presented, wanted: Wanted): Metered<Authorized> {
    const found = this.#authorize(presented, wanted);
    if (!found.ok) return { ...found, headers: {} };
    const { account, key, line } = found.value;
    const headers = limitHeaders(metersOf(account, line, Date.now()));
    return { ok: true, value: { models: key.models }, headers };
  }

  /**
   * Everything that must hold before a request may run, and its reservation, in one step that nothing can come between. An idempotency
   * key that stands for a job already reserves nothing and takes nothing from the limits.
   */
  async admit(request: AdmitRequest): Promise<Metered<Admitted>> {
    await this.#turn.next(this.#numOpen);
    return this.#admit(request);
  }

  #admit(request: AdmitRequest): Metered<Admitted> {
    const found = this.#authorize(request, { scope: 'client', model: request.model });
    if (!found.ok) return { ...found, headers: {} };
    const { account, key, line } = found.value;
    const nowMs = Date.now();
    const { jobId, idempotency } = request;
    const made = this.store.reservation(jobId);
    if (made !== null) {
      const headers = limitHeaders(metersOf(account, line, nowMs));
      return { ok: true, value: { kind: 'new', jobId, grant: grantOf(account, made, request) }, headers };
    }
    // Given back, since nothing was heard of it for so long: asking again must not give the row that it has another job.
    if (this.store.hasEntry(jobId)) {
      const headers = limitHeaders(metersOf(account, line, nowMs));
      return { ok: false, failure: { code: 'grant_expired' }, headers };
    }
    const recalled = idempotency === null ? null : this.#recall(key.line, idempotency, nowMs);
    if (recalled !== null) return { ...recalled, headers: limitHeaders(metersOf(account, line, nowMs)) };
    const tokens = request.promptTokens + request.completionTokens;
    const pico = costAtMostPicoUsd(request.tariff, request.promptTokens, request.completionTokens);
    const active = {
      account: this.store.numReservations(null),
      line: line.limits === null ? 0 : this.store.numReservations(key.line),
    };
    const decision = decide(account, line, { tokens, pico, active }, nowMs);
    if (decision.kind === 'refused') {
      if (decision.news.length > 0)
        this.ctx.storage.transactionSync(() => {
          this.store.updateAccount(decision.account);
          if (decision.state !== null) this.keys.setLineState(key.line, decision.state);
          this.#tell(decision.news, decision.account, key);
        });
      return { ok: false, failure: decision.failure, headers: limitHeaders(metersOf(account, line, nowMs)) };
    }
    const checkMs = nowMs + GRANT_MS + CLOCK_MARGIN_MS;
    const { keyId, queue, model, tariff, user } = request;
    const about = { jobId, keyId, line: key.line, user, queue, model, tariff };
    const idempotencyKey = idempotency?.key ?? null;
    const reservation: Reservation = { ...about, pico, tokens, createdMs: nowMs, checkMs, idempotencyKey };
    this.ctx.storage.transactionSync(() => {
      this.store.insertReservation(reservation);
      if (idempotency !== null) {
        const { bodyHash } = idempotency;
        this.idempotency.insert(key.line, idempotency.key, { bodyHash, jobId, queue, model, createdMs: nowMs });
      }
      this.store.updateAccount(decision.account);
      if (decision.state !== null) this.keys.setLineState(key.line, decision.state);
    });
    this.#numOpen += 1;
    this.wakeBy(checkMs);
    const grant = grantOf(account, reservation, request);
    const after = { ...line, state: decision.state ?? line.state };
    const headers = limitHeaders(metersOf(decision.account, after, nowMs));
    return { ok: true, value: { kind: 'new', jobId, grant }, headers };
  }

  /** Books ended jobs; a job that has its row already is left as it is. All of them hold when this returns. */
  async settle(requests: SettleRequest[]): Promise<void> {
    await this.#turn.next(this.#numOpen);
    this.ctx.storage.transactionSync(() => {
      for (const request of requests) if (this.#closing.settle(request, Date.now())) this.#numOpen -= 1;
      this.#exporter.soon();
    });
  }

  /** Gives a reservation back whose job no queue took. Does nothing when it is settled or released already. */
  release(jobId: string): void {
    this.ctx.storage.transactionSync(() => {
      if (!this.#closing.release(jobId, Date.now())) return;
      this.#numOpen -= 1;
      this.#exporter.soon();
    });
  }

  usageRows(query: RowQuery): UsageRow[] {
    return this.ledger.rows(query);
  }

  /** For reconciliation: the rows after a place, and what is admitted and not ended. */
  ledgerPage(after: number, limit: number): LedgerPage {
    return {
      rows: this.ledger.after(after, limit),
      reservations: this.store.reservationsToCheck(Number.MAX_SAFE_INTEGER),
    };
  }

  usageBuckets(query: BucketQuery): BucketRow[] {
    return this.ledger.buckets(query);
  }

  override async alarm(): Promise<void> {
    this.#alarmMs = null;
    await this.#checkReservations();
    this.idempotency.drop(Date.now());
    await deliver(this.webhooks);
    await this.#exporter.report();
    await this.#exporter.meter();
    const nextMs = this.#nextDueMs();
    if (nextMs !== null) this.wakeBy(nextMs);
  }

  /** Asks the queues about reservations past their grant, and releases those that no queue knows. */
  async #checkReservations(): Promise<void> {
    const byQueue = Map.groupBy(this.store.reservationsToCheck(Date.now()), (reservation) => reservation.queue);
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
        if (known.has(jobId)) this.store.checkAgainAt(jobId, Date.now() + CHECK_AGAIN_MS);
        else this.release(jobId);
      }
    }
  }

  /** The job that the key stands for, or why not; null: it is free for a new one. */
  #recall(line: string, { key, bodyHash, ifNew }: Idempotency, nowMs: number): Outcome<Admitted> | null {
    const found = this.idempotency.find(line, key, nowMs);
    if (found === null) return ifNew === 'run' ? null : { ok: false, failure: { code: 'answer_gone', ran: false } };
    if (found.bodyHash !== bodyHash) return { ok: false, failure: { code: 'idempotency_conflict' } };
    const { jobId, queue, model, createdMs } = found;
    const ended = this.store.hasEntry(jobId);
    return { ok: true, value: { kind: 'known', jobId, queue, model, createdMs, ended } };
  }

  #authorize(presented: Presented, wanted: Wanted): Outcome<{ account: Account; key: KeyState; line: Line }> {
    const key = this.keys.find(presented.keyId);
    if (key === null || !equalInConstantTime(key.secretHash, presented.secretHash))
      return { ok: false, failure: { code: 'invalid_key' } };
    const refusal: Failure | null = refusalOf(key, wanted, presented.clientIp, Date.now());
    if (refusal !== null) return { ok: false, failure: refusal };
    const account = this.store.account();
    return account === null ? unknownAccount : { ok: true, value: { account, key, line: this.#closing.lineOf(key) } };
  }

  #tell(news: readonly News[], account: Account, key: KeyState): void {
    for (const { type, of } of news) {
      const budget = of === 'key' ? key.budget : account.budget;
      const usd = (pico: bigint | null) => (pico === null ? null : decimalUsd(pico));
      const data = {
        account_id: account.accountId,
        key_id: key.keyId,
        of,
        credit_usd: usd(account.creditPico),
        spent_usd: usd(account.spentPico),
        hard_usd: of === 'credit' ? null : usd(budget?.hardPico ?? null),
        soft_usd: of === 'credit' ? null : usd(budget?.softPico ?? null),
      };
      this.#announce(type, of === 'key' ? key.keyId : account.accountId, data);
    }
  }

  protected override keyRevoked(key: KeyState): void {
    const account = this.store.account();
    this.#announce('key.revoked', key.keyId, { account_id: account?.accountId, key_id: key.keyId, name: key.name });
  }

  protected override planMeterEvents(account: Account): void {
    this.#exporter.plan(account);
  }

  protected override reportAgain(after: number): void {
    this.#exporter.reportAgain(after);
  }

  /** Call it in the transaction of what it tells about. */
  #announce(type: WebhookEvent, target: string, data: Record<string, unknown>): void {
    const createdMs = Date.now();
    this.keys.audit({ createdMs, actor: 'ledger', action: type, target, detail: data });
    if (this.webhooks.queue({ id: `evt_${randomBase62(22)}`, type, createdMs, data })) this.wakeBy(createdMs);
  }

  #nextDueMs(): number | null {
    const due = [
      this.store.nextCheckMs(),
      this.webhooks.nextMs(),
      this.#exporter.nextMs(Date.now()),
      this.idempotency.nextDropMs(),
    ].filter((ms) => ms !== null);
    return due.length === 0 ? null : Math.min(...due);
  }

  /** An instance that does not know its alarm must not put it off. */
  protected wakeBy(timeMs: number): void {
    const dueMs = this.#alarmMs === null ? Math.min(timeMs, this.#nextDueMs() ?? timeMs) : timeMs;
    if (this.#alarmMs !== null && this.#alarmMs <= dueMs) return;
    this.#alarmMs = dueMs;
    this.ctx.storage.setAlarm(dueMs);
  }
}

/** What a reservation lets the edge do; the same for the same reservation. */
function grantOf(account: Account, reservation: Reservation, request: AdmitRequest): Grant {
  const { jobId, keyId, model, createdMs, tariff, pico, idempotencyKey } = reservation;
  return {
    jobId,
    accountId: account.accountId,
    keyId,
    model,
    createdMs,
    expiresMs: createdMs + GRANT_MS,
    tariff,
    reservedPicoUsd: pico.toString(),
    promptTokenLimit: request.promptTokens,
    completionTokenLimit: request.completionTokens,
    keepUntilMs: idempotencyKey === null ? null : keepUntilMs(createdMs),
  };
}
