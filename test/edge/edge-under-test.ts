/** Edge under test: accounts, keys and requests against the real Worker and its objects. */
import { env, exports } from 'cloudflare:workers';
import { expect } from 'vitest';
import type { ModelCard } from '../../core/protocol.ts';
import type { RowQuery, UsageRow } from '../../edge/api/accounts.ts';
import type { Caller, JobEvent, JobRequest, Submission } from '../../edge/api/service.ts';
import { KeyRing } from '../../edge/auth.ts';
import { CardCache } from '../../edge/catalog/cache.ts';
import { CATALOG_NAME } from '../../edge/catalog/object.ts';
import { EdgeService } from '../../edge/edge-service.ts';
import { queueName } from '../../edge/queue/shards.ts';

export const ADMIN_KEY = 'admin-key-of-the-tests';
export const service = new EdgeService(env, new KeyRing(env.KEY_SECRETS), new CardCache(env));

export const ALL_ROWS: RowQuery = { limit: 100, requestId: null, before: null, fromMs: null, toMs: null };

let numModels = 0;

/** A model, and with it a queue, that no other test has. */
export function newModel(overrides: Partial<ModelCard> = {}): ModelCard {
  numModels += 1;
  return {
    id: `test/model-${numModels}`,
    architecture: 'llama',
    quantization: null,
    contextTokens: 1000,
    vocabSize: 100,
    parameters: 1,
    maxTokensPerByte: 1,
    textOverheadTokens: 1,
    chat: null,
    ...overrides,
  };
}

export function queueOf(model: ModelCard) {
  return env.QUEUE.getByName(queueName(model.id));
}

/** A model that the catalog knows and no worker serves. */
export async function idleModel(): Promise<ModelCard> {
  const model = newModel();
  await env.CATALOG.getByName(CATALOG_NAME).register(model);
  return model;
}

/** A call of an HTTP route with a JSON body. */
export function call(method: string, path: string, key: string, body?: unknown): Promise<Response> {
  return exports.default.fetch(`http://edge${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
}

export async function admin<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await call(method, `/admin${path}`, ADMIN_KEY, body);
  expect(response.ok, `${method} ${path}: ${response.status}`).toBe(true);
  return (response.status === 204 ? null : await response.json()) as Answer;
}

export interface TestAccount {
  id: string;
  apiKey: string;
  workerToken: string;
  caller: Caller;
}

export async function newAccount(body: Record<string, unknown> = {}) {
  const { id } = await admin<{ id: string }>('POST', '/accounts', { name: 'test', credit_usd: '10', ...body });
  const client = await admin<{ key: string }>('POST', `/accounts/${id}/keys`, { scopes: ['client'] });
  const worker = await admin<{ key: string }>('POST', `/accounts/${id}/keys`, { scopes: ['worker'] });
  const caller = await service.authenticate(`Bearer ${client.key}`, null);
  if (!caller.ok) throw new Error('a new key was refused');
  return { id, apiKey: client.key, workerToken: worker.key, caller: caller.value } satisfies TestAccount;
}

/** Three prompt tokens by ids, so that reservations are exact: 3 · 3 + 10 · 5 = 59 pico-USD. */
export function jobRequest(model: ModelCard | null, overrides: Partial<JobRequest> = {}): JobRequest {
  return {
    model: model?.id ?? null,
    input: { kind: 'ids', ids: [1, 2, 3] },
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
    maxNewTokens: 10,
    truncatePromptTokens: null,
    stop: [],
    stopText: 'drop',
    eos: 'stop',
    topLogprobs: 0,
    ...overrides,
  };
}

/** Submits and expects to be admitted. */
export async function submit(account: TestAccount, request: JobRequest, signal = new AbortController().signal) {
  const outcome = await service.submit(account.caller, request, signal);
  if (!outcome.ok) throw new Error(`refused: ${JSON.stringify(outcome.failure)}`);
  return outcome.value;
}

/** Every event to the end, without `waiting`. */
export async function readAll(submission: Submission): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of submission.events) if (event.type !== 'waiting') events.push(event);
  return events;
}

/** The usage row of a job; settlements are sent beside the end event, so it may come a moment later. */
export async function rowOf(account: TestAccount, jobId: string): Promise<UsageRow> {
  for (let tries = 0; tries < 200; tries++) {
    const rows = await service.usage(account.caller, { ...ALL_ROWS, requestId: jobId });
    if (rows.ok && rows.value[0] !== undefined) return rows.value[0];
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`job ${jobId} was not settled`);
}

export async function moneyOf(account: TestAccount) {
  const state = await service.account(account.caller);
  if (!state.ok) throw new Error('no account');
  const { spentPico, reservedPico } = state.value;
  return { spent: spentPico.toString(), reserved: reservedPico.toString() };
}
