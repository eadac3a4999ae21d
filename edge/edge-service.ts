/** Edge service: the Service behind the HTTP surfaces, made of the account, catalog and queue objects. */
import type { Job, ModelCard } from '../core/protocol.ts';
import { boundOf } from './admission.ts';
import type { AccountView, BucketQuery, BucketRow, RowQuery, UsageRow } from './api/accounts.ts';
import { modelOf } from './api/request.ts';
import type { Caller, JobRequest, Metered, Outcome, Scope, Service, Submission, SubmitOptions } from './api/service.ts';
import type { KeyRing } from './auth.ts';
import { bearer } from './auth.ts';
import type { CardCache } from './catalog/cache.ts';
import { CATALOG_NAME } from './catalog/object.ts';
import type { Env } from './env.ts';
import type { AdmitRequest, Admitted } from './ledger/grant.ts';
import type { Authorized } from './ledger/object.ts';
import { attach, pause, submit } from './queue/client.ts';
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

  async authenticate(authorization: string | undefined, clientIp: string | null): Promise<Outcome<Caller>> {
    const key = bearer(authorization);
    const caller = key === null ? null : await this.#keys.verify(key, clientIp);
    return caller === null ? { ok: false, failure: { code: 'invalid_key' } } : { ok: true, value: caller };
  }

  async authorize(caller: Caller): Promise<Metered<null>> {
    const authorized = await this.#authorize(caller, null);
    return authorized.ok ? { ...authorized, value: null } : authorized;
  }

  async submit(
    caller: Caller,
    request: JobRequest,
    signal: AbortSignal,
    { user, idempotency }: SubmitOptions = { user: null, idempotency: null },
  ): Promise<Metered<Submission>> {
    const entry = await this.#cards.get(modelOf(request.model));
    if (entry === null) {
      // A key that is no good any more must not learn which models there are.
      const authorized = await this.#authorize(caller, 'client');
      if (!authorized.ok) return authorized;
      const failure = { code: 'model_not_found', model: request.model ?? 'default' } as const;
      return { ok: false, failure, headers: authorized.headers };
    }
    const { card, tariff, fallback } = entry;
    const bound = boundOf(request, card);
    if (!bound.ok) {
      const authorized = await this.#authorize(caller, 'client', card.id);
      return authorized.ok ? { ...bound, headers: authorized.headers } : authorized;
    }
    const queue = queueName(card.id);
    const { keyId, secretHash, clientIp } = caller;
    const presented = { keyId, secretHash, clientIp };
    const asked = { ...presented, model: card.id, queue, tariff, user, idempotency, ...bound.value };
    for (const delayMs of PENDING_MS) {
      const admitted = await this.#admit(caller, asked, signal);
      if (!admitted.ok) return admitted;
      const { value, headers } = admitted;
      if (value.kind === 'known') {
        const { jobId, model, createdMs, ended } = value;
        const events = await attach(() => this.#env.QUEUE.getByName(value.queue), jobId, signal);
        if (events.ok) return { ok: true, value: submissionOf(jobId, model, createdMs, events.value, true), headers };
        if (ended) return { ok: false, failure: { code: 'answer_gone', ran: true }, headers };
        await pause(delayMs, signal);
        continue;
      }
      const { grant } = value;
      const job: Job = { ...request, id: grant.jobId, model: card.id, promptTokenLimit: grant.promptTokenLimit };
      const submitted = await submit(() => this.#env.QUEUE.getByName(queue), grant, job, fallback, signal);
      if (submitted.kind === 'queued')
        return {
          ok: true,
          value: submissionOf(grant.jobId, card.id, grant.createdMs, submitted.events, false),
          headers,
        };
      if (submitted.certain) await this.#account(caller).release(grant.jobId);
      return { ok: false, failure: submitted.failure, headers };
    }
    return { ok: false, failure: { code: 'idempotency_pending', retryAfterS: 5 }, headers: {} };
  }

  async models(caller: Caller): Promise<Metered<ModelCard[]>> {
    const authorized = await this.#authorize(caller, null);
    if (!authorized.ok) return authorized;
    const { models } = authorized.value;
    const cards = await this.#env.CATALOG.getByName(CATALOG_NAME).list();
    return { ...authorized, value: models === null ? cards : cards.filter(({ id }) => models.includes(id)) };
  }

  async usage(caller: Caller, query: RowQuery): Promise<Metered<UsageRow[]>> {
    const authorized = await this.#authorize(caller, USAGE_SCOPES);
    return authorized.ok ? { ...authorized, value: await this.#account(caller).usageRows(query) } : authorized;
  }

  async usageBuckets(caller: Caller, query: BucketQuery): Promise<Metered<BucketRow[]>> {
    const authorized = await this.#authorize(caller, USAGE_SCOPES);
    return authorized.ok ? { ...authorized, value: await this.#account(caller).usageBuckets(query) } : authorized;
  }

  async account(caller: Caller): Promise<Metered<AccountView>> {
    const authorized = await this.#authorize(caller, USAGE_SCOPES);
    if (!authorized.ok) return authorized;
    return { ...(await this.#account(caller).view()), headers: authorized.headers };
  }

  /**
   * An account's object that crashed in the middle of an admission is asked again: what it may have reserved without telling is released
   * after its grant, since no queue knows it, and an idempotency key stands for one job anyway.
   */
  async #admit(caller: Caller, asked: AdmitRequest, signal: AbortSignal): Promise<Metered<Admitted>> {
    for (const delayMs of LOST_ADMISSION_MS) {
      try {
        return await this.#account(caller).admit(asked);
      } catch (error) {
        console.error({ event: 'account_did_not_answer', accountId: caller.accountId, error: String(error) });
        await pause(delayMs, signal);
      }
    }
    return this.#account(caller).admit(asked);
  }

  #account(caller: Caller) {
    return this.#env.ACCOUNT.getByName(caller.accountId);
  }

  async #authorize(
    { accountId, ...presented }: Caller,
    scope: Scope | readonly Scope[] | null,
    model: string | null = null,
  ): Promise<Metered<Authorized>> {
    return this.#env.ACCOUNT.getByName(accountId).authorize(presented, { scope, model });
  }
}

function submissionOf(
  jobId: string,
  model: string,
  createdMs: number,
  events: Submission['events'],
  replayed: boolean,
): Submission {
  return { jobId, model, createdS: Math.floor(createdMs / 1000), replayed, events };
}

/** Before the second and the third time that an account's object is asked which did not answer; a crashed one is back in milliseconds. */
const LOST_ADMISSION_MS: readonly number[] = [50, 400];
/** How long a second request waits, between its looks, for the first one of its idempotency key to reach the queue: normally milliseconds. */
const PENDING_MS: readonly number[] = [50, 100, 200, 400, 800, 1_600, 0];
/** Who may see what the account used. */
const USAGE_SCOPES = ['client', 'admin'] as const;
