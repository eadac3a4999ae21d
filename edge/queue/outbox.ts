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

  constructor(store: QueueStore, accounts: Env['ACCOUNT']) {
    this.#store = store;
    this.#accounts = accounts;
  }

  /** Sends what is due. One call to an account at a time: what comes meanwhile goes with the next. */
  flush(nowMs: number): Promise<unknown> {
    for (const accountId of this.#store.dueAccounts(nowMs)) {
      if (this.#sending.has(accountId)) continue;
      const sending = this.#send(accountId).finally(() => this.#sending.delete(accountId));
      this.#sending.set(accountId, sending);
    }
    return Promise.all(this.#sending.values());
  }

  async #send(accountId: string): Promise<void> {
    for (;;) {
      const due = this.#store.due(accountId, Date.now(), MAX_BATCH);
      if (due.length === 0) return;
      const jobIds = due.map((entry) => entry.settlement.jobId);
      try {
        await this.#accounts.getByName(accountId).settle(due.map((entry) => entry.settlement));
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
      this.#store.acknowledge(jobIds);
    }
  }
}
