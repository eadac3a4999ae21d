/** Outbox: sends settlements to the accounts until they are acknowledged. What ended together is booked together. */
import type { Env } from '../env.ts';
import { retryDelayMs } from './policy.ts';
import type { QueueStore } from './store.ts';

/** Bounds one call's size; a settlement is some 400 bytes. */
const MAX_BATCH = 256;

export class Outbox {
  readonly #store: QueueStore;
  readonly #accounts: Env['ACCOUNT'];
  readonly #sending = new Map<string, Promise<void>>();
  /** Accounts that got another settlement while one was under way. */
  readonly #again = new Set<string>();
  /** Booked, and to be deleted with the next write: a commit of its own would cost every job a disk flush. Booking twice does nothing. */
  #acknowledged: string[] = [];

  constructor(store: QueueStore, accounts: Env['ACCOUNT']) {
    this.#store = store;
    this.#accounts = accounts;
  }

  /** Sends what is due. One call to an account at a time: what comes meanwhile goes with the next. */
  flush(nowMs: number): Promise<unknown> {
    this.#forget();
    for (const accountId of this.#store.dueAccounts(nowMs)) {
      if (this.#sending.has(accountId)) this.#again.add(accountId);
      else
        this.#sending.set(
          accountId,
          this.#send(accountId).finally(() => this.#sending.delete(accountId)),
        );
    }
    return Promise.all(this.#sending.values());
  }

  async #send(accountId: string): Promise<void> {
    do {
      this.#again.delete(accountId);
      this.#forget();
      const due = this.#store.due(accountId, Date.now(), MAX_BATCH);
      if (due.length === 0) return;
      const jobIds = due.map((entry) => entry.settlement.jobId);
      try {
        await this.#accounts.getByName(accountId).settle(due.map((entry) => entry.settlement));
        this.#acknowledged.push(...jobIds);
      } catch (error) {
        const attempts = Math.max(...due.map((entry) => entry.attempts)) + 1;
        console.error({
          event: 'settlement_not_acknowledged',
          accountId,
          jobs: due.length,
          attempts,
          error: String(error),
        });
        this.#store.postpone(jobIds, Date.now() + retryDelayMs(attempts));
        return;
      }
    } while (this.#again.has(accountId));
  }

  #forget(): void {
    if (this.#acknowledged.length === 0) return;
    this.#store.acknowledge(this.#acknowledged);
    this.#acknowledged = [];
  }
}
