/** Scripted service: a Service whose jobs emit the events that a test writes down. */

import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Failure } from '../../../core/errors.ts';
import type { ModelCard, TokenOut } from '../../../core/protocol.ts';
import type { AccountView, BucketQuery, BucketRow, RowQuery, UsageRow } from '../../../edge/api/accounts.ts';
import { createApi } from '../../../edge/api/app.ts';
import type { ApiEnv } from '../../../edge/api/request.ts';
import type { Idempotency, JobEvent, JobRequest, Metered, Service } from '../../../edge/api/service.ts';

export const KEY = 'nbl_test';
export const JOB_ID = 'job-1';
export const MODEL_ID = 'org/tiny';
export const USAGE = { promptTokens: 5, cachedTokens: 2, completionTokens: 3, costPicoUsd: 12_500_000 };

/** What a job does, in order: an event, a wait for a promise, a break, or its stream's close. */
export type Step = JobEvent | Promise<unknown> | { type: 'break' };

export interface Script {
  steps?: Step[];
  /** Refuses the submission instead. */
  refusal?: Failure;
  /** Its key stood for the job already. */
  replayed?: boolean;
  cards?: ModelCard[];
  rows?: UsageRow[];
  buckets?: BucketRow[];
  account?: AccountView;
}

export interface Scripted {
  app: OpenAPIHono<ApiEnv>;
  requests: JobRequest[];
  signals: AbortSignal[];
  users: (string | null | undefined)[];
  idempotencies: (Idempotency | null | undefined)[];
  usageQueries: RowQuery[];
  bucketQueries: BucketQuery[];
  cancelled: unknown[];
  /** Events handed out so far: a stream that is not read is not drained. */
  numEmitted: () => number;
}

export function scripted(script: Script = {}): Scripted {
  const seen: Omit<Scripted, 'app' | 'numEmitted'> = {
    requests: [],
    signals: [],
    users: [],
    idempotencies: [],
    usageQueries: [],
    bucketQueries: [],
    cancelled: [],
  };
  let numEmitted = 0;
  const events = () => {
    const steps = [...(script.steps ?? answered('Hello'))];
    return new ReadableStream<JobEvent>(
      {
        async pull(controller) {
          const step = steps.shift();
          if (step === undefined) return controller.close();
          if (step instanceof Promise) {
            await step;
            return (this as { pull: (c: typeof controller) => Promise<void> }).pull(controller);
          }
          if (step.type === 'break') return controller.error(new Error('the object was evicted'));
          numEmitted++;
          controller.enqueue(step);
        },
        cancel(reason) {
          seen.cancelled.push(reason);
        },
      },
      { highWaterMark: 0 },
    );
  };
  const headers = { 'x-ratelimit-limit-requests': '60', 'x-ratelimit-remaining-requests': '59' };
  const ok = <Value>(value: Value): Promise<Metered<Value>> => Promise.resolve({ ok: true, value, headers });
  const service: Service = {
    async authenticate(authorization) {
      return authorization === `Bearer ${KEY}`
        ? { ok: true, value: { accountId: 'acct', keyId: 'key', secretHash: '00', clientIp: null } }
        : { ok: false, failure: { code: 'invalid_key' } };
    },
    authorize: () => ok(null),
    async submit(_caller, request, signal, options) {
      seen.users.push(options?.user);
      seen.idempotencies.push(options?.idempotency);
      seen.requests.push(request);
      seen.signals.push(signal);
      if (script.refusal) return { ok: false, failure: script.refusal, headers: {} };
      const model = request.model ?? MODEL_ID;
      if (model !== MODEL_ID) return { ok: false, failure: { code: 'model_not_found', model }, headers: {} };
      const replayed = script.replayed ?? false;
      return {
        ok: true,
        value: { jobId: JOB_ID, model, createdS: 1_700_000_000, replayed, events: events() },
        headers,
      };
    },
    models: () => ok(script.cards ?? [card(MODEL_ID)]),
    usage: (_caller, query) => {
      seen.usageQueries.push(query);
      return ok(script.rows ?? []);
    },
    usageBuckets: (_caller, query) => {
      seen.bucketQueries.push(query);
      return ok(script.buckets ?? []);
    },
    account: () => (script.account ? ok(script.account) : Promise.reject(new Error('no account was scripted'))),
  };
  return { ...seen, app: createApi(() => service), numEmitted: () => numEmitted };
}

export const started: JobEvent = { type: 'started', backend: 'wasm', promptTokens: 5, cachedTokens: 2 };
export const tokens = (from: number, ...texts: string[]): JobEvent => ({
  type: 'tokens',
  from,
  tokens: texts.map((text, at) => token(from + at, text)),
});
export const finished = (reason: 'eos' | 'length' | 'stop' = 'eos', text = ''): JobEvent => ({
  type: 'finished',
  reason,
  text,
  usage: USAGE,
  backend: 'wasm',
});
export const failed = (failure: Failure): JobEvent => ({ type: 'failed', failure, usage: USAGE });
export const answered = (...texts: string[]): JobEvent[] => [started, tokens(0, ...texts), finished()];

export function token(id: number, text: string, more: Partial<TokenOut> = {}): TokenOut {
  return { id, text, logprob: -0.5, special: false, top: [], ...more };
}

export function card(id: string, contextTokens = 2048): ModelCard {
  return {
    id,
    architecture: 'llama',
    quantization: 'gptq-int4',
    contextTokens,
    vocabSize: 512,
    parameters: 1_000_000,
    maxTokensPerByte: 1,
    textOverheadTokens: 2,
    chat: { baseTokens: 4, perMessageTokens: 8 },
  };
}

/** Posts JSON with the key; `headers` overrides. */
export function post(
  { app }: Pick<Scripted, 'app'>,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Response> {
  return Promise.resolve(
    app.request(path, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    }),
  );
}

export function get({ app }: Pick<Scripted, 'app'>, path: string): Promise<Response> {
  return Promise.resolve(app.request(path, { headers: { authorization: `Bearer ${KEY}` } }));
}

// biome-ignore lint/suspicious/noExplicitAny: tests read JSON by its documented shape.
export type Json = any;

export async function errorOf(response: Response): Promise<{ status: number } & Record<string, unknown>> {
  return { status: response.status, ...((await response.json()) as Json).error };
}

/** The data of a finished event stream, JSON parsed except for [DONE], with their ids, and its comments. */
export async function eventsOf(
  response: Response,
): Promise<{ data: Json[]; ids: (string | null)[]; comments: string[] }> {
  const events = (await response.text()).split('\n\n').filter((event) => event !== '');
  const said = events.map((event) => /^(?:id: (.*)\n)?data:(.*)$/.exec(event)).filter((match) => match !== null);
  const comments = events.filter((event) => event.startsWith(':'));
  if (said.length + comments.length !== events.length) throw new Error('neither data nor a comment');
  return {
    data: said.map(([, , text]) => (text!.trim() === '[DONE]' ? '[DONE]' : JSON.parse(text!))),
    ids: said.map(([, id]) => id ?? null),
    comments,
  };
}
