/** Faults: the seeded schedule of what breaks during a chaos run, and its injection. */
import { Draws } from './draws.ts';
import type { Edge, Target } from './edge.ts';
import type { Pool } from './pool.ts';

export const FAULTS = [
  'worker_killed',
  'worker_drained',
  'socket_cut',
  'socket_silent',
  'queue_aborted',
  'queue_evicted',
  'account_aborted',
  'account_evicted',
  'ledger_slow',
  'queue_slow',
  'settled_twice',
  'settled_late',
  'settlement_unanswered',
] as const;
export type Fault = (typeof FAULTS)[number];

/** How often each comes beside the others: a kill costs the machine a second of loading, a doubled settlement nothing. */
const WEIGHTS: Record<Exclude<Fault, 'queue_evicted'>, number> = {
  worker_killed: 8,
  worker_drained: 3,
  socket_cut: 10,
  socket_silent: 2,
  queue_aborted: 8,
  account_aborted: 6,
  account_evicted: 6,
  ledger_slow: 8,
  queue_slow: 3,
  settled_twice: 16,
  settled_late: 12,
  settlement_unanswered: 12,
};

export interface Victims {
  edge: Edge;
  pool: Pool;
  accounts: readonly string[];
  queues: readonly string[];
}

export class Faults {
  readonly counts: Record<Fault, number> = Object.fromEntries(FAULTS.map((name) => [name, 0])) as Record<Fault, number>;
  /** Faults that could not be injected, with the reason. */
  readonly errors: string[] = [];
  readonly #victims: Victims;
  readonly #draws: Draws;
  readonly #everyRequests: number;
  /** Requests until the next one. */
  #left: number;
  /** Workers that are down now: one always stays. */
  readonly #down = new Set<number>();
  readonly #running = new Set<Promise<void>>();

  /** One fault in so many requests on average: by requests and not by time, so that a slow machine is not broken more often. */
  constructor(victims: Victims, seed: number, everyRequests: number) {
    this.#victims = victims;
    this.#draws = new Draws(seed, 'faults');
    this.#everyRequests = everyRequests;
    this.#left = this.#next();
  }

  /** A request began: it may be time for the next fault. */
  begun(): void {
    this.#left -= 1;
    if (this.#left > 0) return;
    this.#left = this.#next();
    const fault = this.#draws.weighted(WEIGHTS);
    const running = this.#counted(fault, () => this.#inject(fault)).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Resolves when nothing is broken any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** An object with open streams cannot be evicted, so queues are while nobody asks for anything. */
  async evictQueues(): Promise<void> {
    for (const queue of this.#victims.queues)
      await this.#counted('queue_evicted', async () => {
        await this.#victims.edge.evict({ queue });
        return true;
      });
  }

  #next(): number {
    return this.#draws.integer(1, 2 * this.#everyRequests - 1);
  }

  async #counted(fault: Fault, inject: () => Promise<boolean>): Promise<void> {
    const startedMs = performance.now();
    try {
      if (await inject()) this.counts[fault] += 1;
    } catch (error) {
      this.errors.push(`${fault}: ${(error as Error).message} (${Math.round(performance.now() - startedMs)} ms)`);
    }
  }

  /** False where there was nothing to break. */
  async #inject(fault: keyof typeof WEIGHTS): Promise<boolean> {
    const { edge, pool } = this.#victims;
    const draws = this.#draws;
    const account: Target = { account: draws.pick(this.#victims.accounts) };
    const queue: Target = { queue: draws.pick(this.#victims.queues) };
    const worker = draws.integer(0, pool.size - 1);
    switch (fault) {
      case 'worker_killed':
      case 'worker_drained': {
        const downMs = draws.integer(0, 3000);
        if (this.#down.has(worker) || this.#down.size >= pool.size - 1) return false;
        this.#down.add(worker);
        const signal = fault === 'worker_killed' ? 'SIGKILL' : 'SIGTERM';
        await pool.replace(worker, signal, downMs).finally(() => this.#down.delete(worker));
        return true;
      }
      case 'socket_cut':
        pool.cut(worker, 'reset', 0);
        return true;
      case 'socket_silent':
        pool.cut(worker, 'silent', draws.integer(500, 4000));
        return true;
      case 'queue_aborted':
        await edge.inject('abort', queue);
        return true;
      case 'account_aborted':
        await edge.inject('abort', account);
        return true;
      case 'account_evicted':
        await edge.evict(account);
        return true;
      case 'ledger_slow':
        await edge.inject('stall', account, draws.integer(100, 3000));
        return true;
      case 'queue_slow':
        await edge.inject('stall', queue, draws.integer(100, 2000));
        return true;
      case 'settled_twice':
        await edge.inject('twice', account);
        return true;
      case 'settled_late':
        await edge.inject('late', account);
        return true;
      case 'settlement_unanswered':
        await edge.inject('unanswered', account);
        return true;
      default:
        return fault satisfies never;
    }
  }
}
