/** Edge service: the Service behind the HTTP surfaces, made of the account, catalog and queue objects. */
import { failureOf } from '../core/errors.ts';
import type { Job, ModelCard } from '../core/protocol.ts';
import { boundOf } from './admission.ts';
import type { AccountView, BucketQuery, BucketRow, RowQuery, UsageRow } from './api/accounts.ts';
import { modelOf } from './api/request.ts';
import type { Caller, JobRequest, Metered, Outcome, Scope, Service, Submission, SubmitOptions } from './api/service.ts';
import type { KeyRing } from './auth.ts';
import { bearer, randomBase62 } from './auth.ts';
import type { CardCache } from './catalog/cache.ts';
import { CATALOG_NAME } from './catalog/object.ts';
import type { Env } from './env.ts';
import { queueShards } from './env.ts';
import { insist } from './insist.ts';
import type { Admitted } from './ledger/grant.ts';
import type { Authorized } from './ledger/object.ts';
import { attach, pause, submit } from './queue/client.ts';
import { chooseShard, Loads, queueName } from './queue/shards.ts';

export class EdgeService implements Service {
  readonly #env: Env;
  readonly #keys: KeyRing;
  readonly #cards: CardCache;
  readonly #loads = new Loads();

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
    const queue = this.#shardOf(card.id);
    const { keyId, secretHash, clientIp } = caller;
    const presented = { keyId, secretHash, clientIp };
    // Named here, so that asking again for an answer that was lost reserves nothing twice.
    const asked = {
      ...presented,
      jobId: randomBase62(22),
      model: card.id,
      queue,
      tariff,
      user,
      idempotency,
      ...bound.value,
    };
    for (const delayMs of PENDING_MS) {
      const admitted = await insist<Metered<Admitted>>('account', async () => this.#account(caller).admit(asked));
      if (!admitted.ok) return admitted;
      const { value, headers } = admitted;
      if (value.kind === 'known') {
        const { jobId, model, createdMs, ended } = value;
        const reached = await reach(attach(() => this.#env.QUEUE.getByName(value.queue), jobId, signal));
        if (!reached.ok) return { ...reached, headers: { ...headers, [REQUEST_ID]: jobId } };
        const events = reached.value;
        if (events.ok) return { ok: true, value: submissionOf(jobId, model, createdMs, events.value, true), headers };
        if (events.failure.code !== 'job_not_found') return { ...events, headers };
        if (ended) return { ok: false, failure: { code: 'answer_gone', ran: true }, headers };
        await pause(delayMs, signal);
        continue;
      }
      const { grant } = value;
      const job: Job = { ...request, id: grant.jobId, model: card.id, promptTokenLimit: grant.promptTokenLimit };
      // From here on it has a row, or will have one: also what fails is answered with its id.
      const named = { ...headers, [REQUEST_ID]: grant.jobId };
      const reached = await reach(submit(() => this.#env.QUEUE.getByName(queue), grant, job, fallback, signal));
      if (!reached.ok) return { ...reached, headers: named };
      const submitted = reached.value;
      if (submitted.load !== null) this.#loads.note(queue, submitted.load, Date.now());
      if (submitted.kind === 'queued')
        return {
          ok: true,
          value: submissionOf(grant.jobId, card.id, grant.createdMs, submitted.events, false),
          headers,
        };
      // Where the ledger does not answer, it asks the queue later, and releases what that does not know.
      if (submitted.certain) await reach(insist('account', () => this.#account(caller).release(grant.jobId)));
      return { ok: false, failure: submitted.failure, headers: named };
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

  /** The queue object for a new job. */
  #shardOf(model: string): string {
    const loadOf = (shard: number) => this.#loads.of(queueName(model, shard), Date.now());
    return queueName(model, chooseShard(queueShards(this.#env), loadOf, Math.random));
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

/** What an object that is away throws, as a failure. */
async function reach<Value>(call: Promise<Value>): Promise<Outcome<Value>> {
  try {
    return { ok: true, value: await call };
  } catch (error) {
    return { ok: false, failure: failureOf(error) };
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

/** Header of the answer; the client asks for its usage by it. */
const REQUEST_ID = 'x-request-id';
/** How long a second request waits, between its looks, for the first one of its idempotency key to reach the queue: normally milliseconds. */
const PENDING_MS: readonly number[] = [50, 100, 200, 400, 800, 1_600, 0];
/** Who may see what the account used. */
const USAGE_SCOPES = ['client', 'admin'] as const;
