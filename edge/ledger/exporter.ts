/** Exporter: sends an account's rows to the reporting copy and to Stripe's meters. The ledger is its own outbox: a cursor says how far each has come. */
import type { Env } from '../env.ts';
import { ROWS_PER_MESSAGE, reportRow } from '../report/message.ts';
import type { ExportName, ExportStore } from './export-storage.ts';
import { eventsOf } from './meter.ts';
import type { Account, LedgerStore } from './storage.ts';
import { meter, stripeOf } from './stripe-sink.ts';
import type { Ledger } from './usage-query.ts';

/** How long rows gather before they go to the reporting copy, and to Stripe's meters. */
const REPORT_DELAY_MS = 10_000;
const METER_DELAY_MS = 300_000;
/** Rows in one meter event, at most. */
const METERED_AT_ONCE = 5_000;
/** After a queue did not take a message. */
const RETRY_MS = 60_000;
/** What has nowhere to go is looked at so often: the operator may have given it somewhere. */
const NOWHERE_MS = 3_600_000;

export class Exporter {
  readonly #storage: DurableObjectStorage;
  readonly #env: Env;
  readonly #store: LedgerStore;
  readonly #ledger: Ledger;
  readonly #exports: ExportStore;
  /** Sets the object's alarm no later than this. */
  readonly #wakeBy: (timeMs: number) => void;

  constructor(
    storage: DurableObjectStorage,
    env: Env,
    store: LedgerStore,
    ledger: Ledger,
    exports: ExportStore,
    wakeBy: (timeMs: number) => void,
  ) {
    this.#storage = storage;
    this.#env = env;
    this.#store = store;
    this.#ledger = ledger;
    this.#exports = exports;
    this.#wakeBy = wakeBy;
  }

  /** Writes down the meter events of every row that has none yet, for the customer that the account has. Call it in a transaction. */
  plan(account: Account): void {
    if (account.stripeCustomer === null) return;
    const nowMs = Date.now();
    for (let { seq } = this.#exports.cursor('stripe'); ; ) {
      const rows = this.#ledger.after(seq, METERED_AT_ONCE);
      for (const event of eventsOf(account.accountId, account.stripeCustomer, rows, nowMs))
        this.#exports.insertEvent(event);
      seq = rows.at(-1)?.seq ?? seq;
      this.#exports.setCursor('stripe', seq, null);
      if (rows.length < METERED_AT_ONCE) return;
    }
  }

  /** Sends what the reporting copy lacks. A row that is sent twice is one row there. */
  async report(): Promise<void> {
    const queue = this.#env.USAGE_QUEUE;
    const account = this.#store.account();
    if (queue === undefined || account === null) return;
    const cursor = this.#exports.cursor('report');
    if (cursor.nextMs === null || cursor.nextMs > Date.now()) return;
    const { accountId } = account;
    const rows = this.#ledger.after(cursor.seq, ROWS_PER_MESSAGE);
    if (rows.length === 0) return this.#exports.setCursor('report', cursor.seq, null);
    try {
      await queue.send({ accountId, rows: rows.map(reportRow) });
      // At once as long as there is more. Not where it was set back meanwhile.
      if (this.#exports.cursor('report').seq === cursor.seq)
        this.#exports.setCursor('report', rows.at(-1)!.seq, rows.length < ROWS_PER_MESSAGE ? null : Date.now());
    } catch (error) {
      console.error({ event: 'report_not_sent', accountId, error: String(error) });
      this.#exports.setCursor('report', cursor.seq, Date.now() + RETRY_MS);
    }
    // What was appended while it was sent has put no time of its own.
    const { seq, nextMs } = this.#exports.cursor('report');
    if (nextMs === null && this.#ledger.lastSeq() > seq) this.soon();
  }

  /** Sends every row after a place once more, from now on. Call it in a transaction. */
  reportAgain(after: number): void {
    const nowMs = Date.now();
    this.#exports.setCursor('report', Math.min(after, this.#exports.cursor('report').seq), nowMs);
    this.#wakeBy(nowMs);
  }

  /** Plans what is due, and does the next step of every planned event. */
  async meter(): Promise<void> {
    const stripe = stripeOf(this.#env);
    if (stripe === null) return;
    const { nextMs } = this.#exports.cursor('stripe');
    const account = this.#store.account();
    if (account !== null && nextMs !== null && nextMs <= Date.now())
      this.#storage.transactionSync(() => this.plan(account));
    await meter(stripe, this.#exports);
  }

  /** When there is something to export, or to look at again. */
  nextMs(nowMs: number): number | null {
    const wake = (dueMs: readonly (number | null)[], hasSink: boolean) => {
      const due = dueMs.filter((ms) => ms !== null);
      if (due.length === 0) return null;
      return hasSink ? Math.min(...due) : Math.max(nowMs + NOWHERE_MS, ...due);
    };
    const report = wake([this.#exports.cursor('report').nextMs], this.#reports);
    const stripe = wake([this.#exports.cursor('stripe').nextMs, this.#exports.nextEventMs()], this.#meters);
    return wake([report, stripe], true);
  }

  get #reports(): boolean {
    return this.#env.USAGE_QUEUE !== undefined;
  }

  get #meters(): boolean {
    return (this.#env.STRIPE_API_KEY ?? '') !== '';
  }

  /** A new row is exported with those that come within the delay. One write for all of them. */
  soon(): void {
    const nowMs = Date.now();
    const soon = (name: ExportName, wanted: boolean, delayMs: number) => {
      const { seq, nextMs } = this.#exports.cursor(name);
      if (!wanted || nextMs !== null) return;
      this.#exports.setCursor(name, seq, nowMs + delayMs);
      this.#wakeBy(nowMs + delayMs);
    };
    soon('report', this.#reports, REPORT_DELAY_MS);
    soon('stripe', this.#meters && (this.#store.account()?.stripeCustomer ?? null) !== null, METER_DELAY_MS);
  }
}
