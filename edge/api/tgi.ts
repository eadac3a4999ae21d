/** TGI: POST /generate, /generate_stream and /, as Text Generation Inference has them. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { failureOf } from '../../core/errors.ts';
import { EVENT_STREAM_HEADERS, eventStream } from './event-stream.ts';
import { JobReader, LEASE_WAIT_MS } from './job-reader.ts';
import { json, jsonOrEvents, RETRY_HEADERS, retryResponses, security } from './openapi.ts';
import { logInternal } from './refusal.ts';
import {
  type ApiContext,
  type ApiEnv,
  authenticated,
  modelOf,
  type Resolve,
  readJson,
  schemaFailure,
  submit,
} from './request.ts';
import { invalidHeader, retryOf } from './retry.ts';
import type { JobRequest, Outcome } from './service.ts';
import { computeHeaders, generateHeaders, generateResponse, type TgiAsked } from './tgi-answer.ts';
import { INCOMPLETE, refuseTgi } from './tgi-refusal.ts';
import { brokenRule, type Reply, tgiJob } from './tgi-request.ts';
import { GenerateRequest, GenerateResponse, TgiError } from './tgi-schema.ts';
import { tgiEncoder } from './tgi-stream.ts';

type Route = '/generate' | '/generate_stream' | '/';
interface Asked extends TgiAsked {
  inputs: string;
  reply: Reply;
  job: JobRequest;
}

export function tgiRoutes(resolve: Resolve): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  app.onError((error, c) => refuseTgi(c, failureOf(error)));
  const keyed = authenticated(resolve, refuseTgi);
  for (const route of ['/generate', '/generate_stream', '/'] as const) {
    describeRoute(app, route);
    app.post(route, keyed, (c) => generate(c, route));
  }
  return app;
}

async function generate(c: ApiContext, route: Route): Promise<Response> {
  const receivedMs = Date.now();
  const body = await readJson(c.req.raw);
  if (!body.ok) return refuseTgi(c, body.failure);
  const retry = await retryOf(c, body.value);
  if (!retry.ok) return refuseTgi(c, retry.failure);
  const { idempotency, resumeFrom, seed } = retry.value;
  const asked = await read(c, body.value, route, seed);
  if (!asked.ok) return refuseTgi(c, asked.failure);
  if (resumeFrom !== null && asked.value.reply !== 'stream')
    return refuseTgi(c, invalidHeader('Last-Event-ID', 'only with a stream').failure);
  const submitted = await submit(c, asked.value.job, { user: null, idempotency });
  if (!submitted.ok) return refuseTgi(c, submitted.failure);
  const job = new JobReader(submitted.value.events);
  return asked.value.reply === 'stream'
    ? stream(c, job, asked.value, resumeFrom)
    : whole(c, job, asked.value, route, { receivedMs, queuedMs: Date.now() });
}

/** Checks the body; failures come with TGI's statuses before any event, so that a client sees 422 also on a stream. */
async function read(c: ApiContext, json: unknown, route: Route, seed: number): Promise<Outcome<Asked>> {
  const invalid = (reason: string, param: string | null = null) =>
    ({ ok: false, failure: { code: 'invalid_request', param, reason } }) as const;
  const parsed = GenerateRequest.safeParse(json);
  if (!parsed.success) return { ok: false, failure: schemaFailure(parsed.error) };
  const body = parsed.data;
  const parameters = body.parameters ?? {};
  if (route === '/generate' && body.stream)
    return invalid('`stream` is for POST / only; use /generate_stream', 'stream');
  const reply = route === '/generate_stream' || body.stream ? 'stream' : 'whole';
  let maxInputTokens = Number.POSITIVE_INFINITY;
  if (parameters.truncate != null) {
    const limit = await maxInputTokensOf(c, modelOf(body.model));
    if (!limit.ok) return limit;
    maxInputTokens = limit.value;
  }
  const rule = brokenRule(body.inputs, parameters, reply, maxInputTokens);
  if (rule !== null) return invalid(rule);
  const { job, sampled } = tgiJob(body, seed);
  const fullText = parameters.return_full_text ?? route === '/';
  return {
    ok: true,
    value: {
      job,
      reply,
      inputs: body.inputs,
      prefix: fullText ? body.inputs : '',
      details: parameters.details === true || parameters.decoder_input_details === true,
      topTokens: job.topLogprobs > 0,
      maxNewTokens: job.maxNewTokens,
      seed: sampled ? job.sampling.seed : null,
    },
  };
}

/** TGI's default --max-input-tokens: one less than the context. Of a model that is not there, or not for this key, the submission says so. */
async function maxInputTokensOf(c: ApiContext, model: string | null): Promise<Outcome<number>> {
  const cards = await c.var.service.models(c.var.caller);
  if (!cards.ok) return cards;
  const card = model === null ? cards.value[0] : cards.value.find(({ id }) => id === model);
  return { ok: true, value: card === undefined ? Number.POSITIVE_INFINITY : card.contextTokens - 1 };
}

async function whole(
  c: ApiContext,
  job: JobReader,
  asked: Asked,
  route: Route,
  times: { receivedMs: number; queuedMs: number },
): Promise<Response> {
  const { end, tokens, text, startedMs } = await job.collect();
  if (end.type === 'failed') return refuseTgi(c, end.failure);
  if (end.type === 'cut') {
    logInternal(c.var.requestId, { code: 'answer_lost', reason: end.reason });
    return c.json(INCOMPLETE, 500);
  }
  const finishedMs = Date.now();
  generateHeaders(c, asked.inputs, end, { ...times, startedMs: startedMs ?? finishedMs, finishedMs });
  const answer = generateResponse(asked, text, tokens, end);
  return c.json(route === '/' ? [answer] : answer);
}

async function stream(c: ApiContext, job: JobReader, asked: Asked, resumeFrom: number | null): Promise<Response> {
  const first = await job.first(LEASE_WAIT_MS);
  const { requestId } = c.var;
  const logReason = (reason: string) => logInternal(requestId, { code: 'internal', reason });
  if (first?.type === 'failed') return refuseTgi(c, first.failure);
  if (first?.type === 'cut') {
    logInternal(requestId, { code: 'answer_lost', reason: first.reason });
    return c.json(INCOMPLETE, 500);
  }
  const backend = first?.type === 'started' ? first.backend : null;
  computeHeaders(c, asked.inputs, backend);
  if (backend !== null) c.header('x-nibble-backend', backend);
  return c.body(
    eventStream(job, first, tgiEncoder(asked, requestId), resumeFrom, logReason),
    200,
    EVENT_STREAM_HEADERS,
  );
}

function describeRoute(app: OpenAPIHono<ApiEnv>, route: Route): void {
  const about = {
    '/generate': { summary: 'Continue a text', ok: json('The text', GenerateResponse) },
    '/generate_stream': {
      summary: 'Continue a text, as server-sent events',
      ok: { description: 'Server-sent events', content: { 'text/event-stream': { schema: z.string() } } },
    },
    '/': { summary: 'Continue a text, whole or streamed', ok: jsonOrEvents('The text', z.array(GenerateResponse)) },
  }[route];
  app.openAPIRegistry.registerPath({
    method: 'post',
    path: route,
    summary: about.summary,
    tags: ['Text Generation Inference'],
    security,
    request: {
      headers: RETRY_HEADERS,
      body: { required: true, content: { 'application/json': { schema: GenerateRequest } } },
    },
    responses: {
      200: about.ok,
      400: json('A header or the JSON is wrong', TgiError),
      401: json('The key is wrong or missing', TgiError),
      ...retryResponses(TgiError),
      422: json('A parameter is wrong or not supported yet', TgiError),
      424: json('The generation failed', TgiError),
      429: json('A limit is reached or the queue is full', TgiError),
    },
  });
}
