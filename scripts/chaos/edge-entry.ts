/** Edge entry of the chaos build: the production edge with a hook that breaks its objects. Production's own entry knows nothing of it. */

import type { Env } from '../../edge/env.ts';
import edge, { AccountObject as Account, QueueObject as Queue } from '../../edge/index.ts';
import type { SettleRequest } from '../../edge/ledger/grant.ts';

export { CatalogObject, DirectoryObject } from '../../edge/index.ts';

/** What becomes of the next settlements that reach an account. `unanswered`: booked, and the answer is lost, so that the queue sends them again. */
export const SETTLEMENT_FAULTS = ['twice', 'late', 'unanswered'] as const;
export type SettlementFault = (typeof SETTLEMENT_FAULTS)[number];

/** A settlement that comes `late` comes once at once, and once more after this. */
const LATE_MS = 1_500;

export class QueueObject extends Queue {
  /** As a crash: sockets close with 1006, streams break, what is only in memory is lost. */
  chaosAbort(): void {
    this.ctx.abort('chaos: the queue object crashed');
  }

  /** Nothing else reaches the object for so long. */
  async chaosStall(ms: number): Promise<void> {
    await this.ctx.blockConcurrencyWhile(() => scheduler.wait(ms));
  }
}

export class AccountObject extends Account {
  readonly #faults: SettlementFault[] = [];

  chaosAbort(): void {
    this.ctx.abort('chaos: the account object crashed');
  }

  /** The ledger is slow: admissions and settlements wait. */
  async chaosStall(ms: number): Promise<void> {
    await this.ctx.blockConcurrencyWhile(() => scheduler.wait(ms));
  }

  /** For the next call that settles something. */
  chaosSettle(fault: SettlementFault): void {
    this.#faults.push(fault);
  }

  override async settle(requests: SettleRequest[]): Promise<void> {
    await super.settle(requests);
    const fault = this.#faults.shift();
    switch (fault) {
      case undefined:
        return;
      case 'twice':
        await super.settle(requests);
        return;
      case 'late':
        setTimeout(() => super.settle(requests), LATE_MS);
        return;
      case 'unanswered':
        throw new Error('chaos: booked, and the answer is lost');
      default:
        fault satisfies never;
    }
  }
}

interface ChaosEnv extends Omit<Env, 'ACCOUNT' | 'QUEUE'> {
  ACCOUNT: DurableObjectNamespace<AccountObject>;
  QUEUE: DurableObjectNamespace<QueueObject>;
}

/** POST /chaos/FAULT?account=ID or ?queue=NAME, with `ms` for a stall. */
async function inject(url: URL, env: ChaosEnv): Promise<Response> {
  const fault = url.pathname.slice('/chaos/'.length);
  const [account, queue] = [url.searchParams.get('account'), url.searchParams.get('queue')];
  const object = queue === null ? env.ACCOUNT.getByName(account!) : env.QUEUE.getByName(queue);
  // An object that crashes does not answer.
  if (fault === 'abort') await object.chaosAbort().catch(() => undefined);
  else if (fault === 'stall') await object.chaosStall(Number(url.searchParams.get('ms')));
  else if (queue === null && SETTLEMENT_FAULTS.includes(fault as SettlementFault))
    await env.ACCOUNT.getByName(account!).chaosSettle(fault as SettlementFault);
  else return new Response(`there is no fault "${fault}"`, { status: 404 });
  return new Response(null, { status: 204 });
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (request.method === 'POST' && url.pathname.startsWith('/chaos/')) return inject(url, env);
    return edge.fetch(request, env as unknown as Env, ctx);
  },
  queue: (batch, env) => edge.queue(batch, env as unknown as Env),
} satisfies ExportedHandler<ChaosEnv, Parameters<typeof edge.queue>[0]['messages'][number]['body']>;
