/** Balances: every account's money as it is seen now and then during a run. */
import { setTimeout as wait } from 'node:timers/promises';
import { picoUsdOf } from '../../edge/api/usd.ts';
import type { Edge } from './edge.ts';
import type { Balance } from './verdict.ts';

const EVERY_MS = 5_000;

export async function balancesOf(edge: Edge, accounts: readonly string[]): Promise<Balance[]> {
  return Promise.all(
    accounts.map(async (accountId) => {
      const body = await edge.ask(`/accounts/${accountId}`);
      const pico = (name: string) => picoUsdOf(body[name])!;
      return {
        accountId,
        creditPico: pico('credit_usd'),
        spentPico: pico('spent_usd'),
        reservedPico: pico('reserved_usd'),
      };
    }),
  );
}

/** Looks at every balance now and then. */
export class Balances {
  readonly seen: Balance[] = [];
  readonly #edge: Edge;
  readonly #accounts: readonly string[];
  readonly #stop = new AbortController();
  #loop: Promise<void> | null = null;

  constructor(edge: Edge, accounts: readonly string[]) {
    this.#edge = edge;
    this.#accounts = accounts;
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.seen.push(...(await balancesOf(this.#edge, this.#accounts)));
      await wait(EVERY_MS, null, { signal }).catch(() => undefined);
    }
  }
}
