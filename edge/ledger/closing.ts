/** Closing: the end of a reservation: settled at what its job cost, or released. Call everything here inside a transaction. */
import type { KeyState } from '../api/accounts.ts';
import type { Line, News } from './admit.ts';
import { close } from './admit.ts';
import { NOTHING_SPENT } from './budget.ts';
import type { SettleRequest } from './grant.ts';
import type { IdempotencyStore } from './idempotency-storage.ts';
import type { KeyStore } from './key-storage.ts';
import { costPicoUsd } from './price.ts';
import type { Account, LedgerStore, Reservation } from './storage.ts';
import { entryOf } from './storage.ts';

const NOTHING_USED = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };

export class Closing {
  readonly #store: LedgerStore;
  readonly #keys: KeyStore;
  readonly #idempotency: IdempotencyStore;
  readonly #tell: (news: readonly News[], account: Account, key: KeyState) => void;

  constructor(
    store: LedgerStore,
    keys: KeyStore,
    idempotency: IdempotencyStore,
    tell: (news: readonly News[], account: Account, key: KeyState) => void,
  ) {
    this.#store = store;
    this.#keys = keys;
    this.#idempotency = idempotency;
    this.#tell = tell;
  }

  /** Books an ended job. False: it has its row already, or was never admitted here. */
  settle(request: SettleRequest, nowMs: number): boolean {
    if (this.#store.hasEntry(request.jobId)) return false;
    const reservation = this.#store.reservation(request.jobId);
    if (reservation === null) {
      // What was never admitted here is nobody's debt; the queue is told that it is done with.
      console.error({ event: 'settlement_without_reservation', jobId: request.jobId, keyId: request.keyId });
      return false;
    }
    const { promptTokens, cachedTokens, completionTokens } = request.usage;
    // What came to nothing may be tried again under its key.
    if (request.status !== 'completed' && promptTokens + completionTokens === 0) this.#forget(reservation);
    const cost = costPicoUsd(request.tariff, promptTokens, completionTokens, cachedTokens);
    if (cost > reservation.pico) {
      // The queue ends a job at its bounds, so this cannot be; and nobody pays more than was reserved.
      console.error({ event: 'settlement_above_reservation', jobId: request.jobId, cost: cost.toString() });
      const usage = { ...NOTHING_USED, costPicoUsd: 0 };
      this.#store.insertEntry(entryOf({ ...request, usage, status: 'failed' }, 0n, reservation.user, nowMs));
      this.#close(reservation, 0n, 0, nowMs);
    } else {
      this.#store.insertEntry(entryOf(request, cost, reservation.user, nowMs));
      this.#close(reservation, cost, promptTokens + completionTokens, nowMs);
    }
    return true;
  }

  /** Gives back the reservation of a job that no queue took. False: there is none. */
  release(jobId: string, nowMs: number): boolean {
    const reservation = this.#store.reservation(jobId);
    if (reservation === null) return false;
    const { keyId, createdMs, model, tariff, user } = reservation;
    const about = { jobId, keyId, user, createdMs, settledMs: nowMs, model, tariff };
    // One that has its row already is closed all the same: it would hold up the alarm, and with it every other, for ever.
    if (!this.#store.hasEntry(jobId))
      this.#store.insertEntry({ ...about, ...NOTHING_USED, costPico: 0n, status: 'released', backend: null });
    this.#forget(reservation);
    this.#close(reservation, 0n, 0, nowMs);
    return true;
  }

  /** What a key is held to beside its account. */
  lineOf(key: KeyState | null): Line {
    if (key === null || (key.limits === null && key.budget === null))
      return { limits: null, budget: null, state: NO_STATE };
    return { limits: key.limits, budget: key.budget, state: this.#keys.lineState(key.line) };
  }

  #forget({ line, idempotencyKey, jobId }: Reservation): void {
    if (idempotencyKey !== null) this.#idempotency.forget(line, idempotencyKey, jobId);
  }

  #close(reservation: Reservation, cost: bigint, tokens: number, nowMs: number): void {
    const account = this.#store.account();
    if (account === null) throw new Error(`job ${reservation.jobId} belongs to an account that does not exist`);
    const key = this.#keys.find(reservation.keyId);
    const closed = close(account, this.lineOf(key), reservation, { cost, tokens }, nowMs);
    this.#store.deleteReservation(reservation.jobId);
    this.#store.updateAccount(closed.account);
    if (closed.state !== null && key !== null) this.#keys.setLineState(key.line, closed.state);
    if (key !== null) this.#tell(closed.news, closed.account, key);
  }
}

const NO_STATE = { buckets: null, spending: NOTHING_SPENT };
