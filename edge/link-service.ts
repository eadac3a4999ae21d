/** Link service: lets a worker's socket through to its queue object, after its token was checked. */
import type { LinkRequest, LinkService } from './api/link.ts';
import type { Caller, Outcome } from './api/service.ts';
import type { KeyRing } from './auth.ts';
import type { Env } from './env.ts';
import { queueShards } from './env.ts';
import { CALLER } from './queue/object.ts';
import { queueName } from './queue/shards.ts';

export class EdgeLink implements LinkService {
  readonly #env: Env;
  readonly #keys: KeyRing;

  constructor(env: Env, keys: KeyRing) {
    this.#env = env;
    this.#keys = keys;
  }

  get shards(): number {
    return queueShards(this.#env);
  }

  async authorize({ token, model, clientIp }: LinkRequest): Promise<Outcome<Caller>> {
    const caller = await this.#keys.verify(token, clientIp);
    if (caller === null) return { ok: false, failure: { code: 'invalid_key' } };
    const account = this.#env.ACCOUNT.getByName(caller.accountId);
    const authorized = await account.authorize(caller, { scope: 'worker', model });
    return authorized.ok ? { ok: true, value: caller } : authorized;
  }

  connect({ model, shard }: LinkRequest, caller: Caller): Promise<Response> {
    const url = `https://queue/link?model=${encodeURIComponent(model)}`;
    return this.#env.QUEUE.getByName(queueName(model, shard)).fetch(url, {
      headers: { upgrade: 'websocket', [CALLER]: JSON.stringify(caller) },
    });
  }
}
