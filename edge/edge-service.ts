/** Edge service: the Service behind the HTTP surfaces, made of the account, catalog and queue objects. */
import type { Job, ModelCard } from '../core/protocol.ts';
import { boundOf } from './admission.ts';
import { modelOf } from './api/request.ts';
import type {
  AccountState,
  Caller,
  JobRequest,
  Metered,
  Outcome,
  Scope,
  Service,
  Submission,
  UsageRow,
} from './api/service.ts';
import type { KeyRing } from './auth.ts';
import { bearer } from './auth.ts';
import type { CardCache } from './catalog/cache.ts';
import { CATALOG_NAME } from './catalog/object.ts';
import type { Env } from './env.ts';
import { submit } from './queue/client.ts';
import { queueName } from './queue/object.ts';

export class EdgeService implements Service {
  readonly #env: Env;
  readonly #keys: KeyRing;
  readonly #cards: CardCache;

  constructor(env: Env, keys: KeyRing, cards: CardCache) {
    this.#env = env;
    this.#keys = keys;
    this.#cards = cards;
  }

  async authenticate(authorization: string | undefined): Promise<Outcome<Caller>> {
    const key = bearer(authorization);
    const caller = key === null ? null : await this.#keys.verify(key);
    return caller === null ? { ok: false, failure: { code: 'invalid_key' } } : { ok: true, value: caller };
  }

  async submit(caller: Caller, request: JobRequest, signal: AbortSignal): Promise<Metered<Submission>> {
    const entry = await this.#cards.get(modelOf(request.model));
    if (entry === null) {
      // A key that is no good any more must not learn which models there are.
      const authorized = await this.#authorize(caller, 'client');
      if (!authorized.ok) return { ...authorized, headers: {} };
      return { ok: false, failure: { code: 'model_not_found', model: request.model ?? 'default' }, headers: {} };
    }
    const { card, tariff, fallback } = entry;
    const bound = boundOf(request, card);
    if (!bound.ok) {
      const authorized = await this.#authorize(caller, 'client');
      return { ...(authorized.ok ? bound : authorized), headers: {} };
    }
    const account = this.#account(caller);
    const queue = queueName(card.id);
    const { keyId, secretHash } = caller;
    const admitted = await account.admit({ keyId, secretHash, model: card.id, queue, tariff, ...bound.value });
    if (!admitted.ok) return admitted;
    const { grant, headers } = admitted.value;
    const job: Job = { ...request, id: grant.jobId, model: card.id, promptTokenLimit: grant.promptTokenLimit };
    const events = await submit(() => this.#env.QUEUE.getByName(queue), grant, job, fallback, signal);
    if (!events.ok) {
      await account.release(grant.jobId);
      return { ...events, headers };
    }
    const createdS = Math.floor(grant.createdMs / 1000);
    return { ok: true, value: { jobId: grant.jobId, model: card.id, createdS, headers, events: events.value } };
  }

  async models(caller: Caller): Promise<Outcome<ModelCard[]>> {
    const authorized = await this.#authorize(caller, null);
    if (!authorized.ok) return authorized;
    return { ok: true, value: await this.#env.CATALOG.getByName(CATALOG_NAME).list() };
  }

  async usage(caller: Caller, query: { limit: number; requestId: string | null }): Promise<Outcome<UsageRow[]>> {
    const authorized = await this.#authorize(caller, 'client');
    if (!authorized.ok) return authorized;
    return { ok: true, value: await this.#account(caller).usage(query) };
  }

  async account(caller: Caller): Promise<Outcome<AccountState>> {
    const authorized = await this.#authorize(caller, 'client');
    if (!authorized.ok) return authorized;
    return this.#account(caller).state();
  }

  #account(caller: Caller) {
    return this.#env.ACCOUNT.getByName(caller.accountId);
  }

  async #authorize(caller: Caller, scope: Scope | null): Promise<Outcome<{ models: string[] | null }>> {
    return this.#account(caller).authorize(caller.keyId, caller.secretHash, scope);
  }
}
