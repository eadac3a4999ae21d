/** Request: what every surface does first: the key, the body's bound, its JSON, and the job's submission. */
import type { z } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import type { Failure } from '../../core/errors.ts';
import type { Actor } from './accounts.ts';
import type { Caller, JobRequest, Metered, Outcome, Service, Submission, SubmitOptions } from './service.ts';

export type Resolve = (c: Context) => Service;
export interface ApiEnv {
  Variables: { service: Service; caller: Caller; requestId: string; metered: boolean; actor: Actor };
}
export type ApiContext = Context<ApiEnv>;
/** A failure in a surface's own words. */
export type Refuse = (c: ApiContext, failure: Failure) => Response;

/** A context of 128k tokens is about 500 kB of text; twice that leaves room for JSON's escapes. */
export const MAX_BODY_BYTES = 1_000_000;
const JSON_MEDIA_TYPE = /^application\/([a-z.-]+\+)?json\s*(;|$)/i;

/** Names the answer for logs and for the client; a job's id replaces it once there is one. */
export function nameRequest(c: ApiContext, requestId: string): void {
  c.set('requestId', requestId);
  c.header('x-request-id', requestId);
}

/** Where the request came from, as Cloudflare says it: what a client sends under this name never gets here. */
export function clientIpOf(c: Context): string | null {
  return c.req.header('cf-connecting-ip') ?? null;
}

/**
 * Lets only callers with a signed key through, and keeps them as `c.var.caller`. An answer that did not ask the account whether the key
 * still holds (a malformed body's, say) is asked for here: no answer, not even a refusal, is for a key that has ended.
 */
export function authenticated(resolve: Resolve, refuse: Refuse): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const service = resolve(c);
    const outcome = await service.authenticate(c.req.header('authorization'), clientIpOf(c));
    if (!outcome.ok) return refuse(c, outcome.failure);
    c.set('service', service);
    c.set('caller', outcome.value);
    await next();
    if (c.var.metered) return;
    const authorized = await service.authorize(outcome.value);
    if (!authorized.ok) c.res = refuse(c, authorized.failure);
    for (const [name, value] of Object.entries(authorized.headers)) c.res.headers.set(name, value);
  };
}

/** Puts what is left of the caller's limits into the answer's headers; the first word counts, since the answer may be on its way at the second. */
export function metered<Value>(c: ApiContext, outcome: Metered<Value>): Metered<Value> {
  if (c.var.metered) return outcome;
  for (const [name, value] of Object.entries(outcome.headers)) c.header(name, value);
  c.set('metered', true);
  return outcome;
}

/** The body as JSON: its media type, its declared size, its real size, then its text. A body without a type is taken for JSON. */
export async function readJson(request: Request): Promise<Outcome<unknown>> {
  const mediaType = request.headers.get('content-type');
  if (mediaType !== null && !JSON_MEDIA_TYPE.test(mediaType))
    return { ok: false, failure: { code: 'unsupported_media_type', mediaType } };
  const tooLarge = { ok: false, failure: { code: 'body_too_large', limitBytes: MAX_BODY_BYTES } } as const;
  if (Number(request.headers.get('content-length')) > MAX_BODY_BYTES) return tooLarge;
  const bytes = await readBytes(request.body);
  if (bytes === null) return tooLarge;
  try {
    return { ok: true, value: JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes)) };
  } catch (error) {
    return { ok: false, failure: { code: 'invalid_json', reason: (error as Error).message } };
  }
}

/** null when there are more than the limit; the rest is then not read. */
async function readBytes(body: ReadableStream<Uint8Array> | null): Promise<Uint8Array | null> {
  if (body === null) return new Uint8Array();
  const reader = body.getReader();
  const parts: Uint8Array[] = [];
  let numBytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    numBytes += value.byteLength;
    if (numBytes > MAX_BODY_BYTES) {
      await reader.cancel();
      return null;
    }
    parts.push(value);
  }
  const bytes = new Uint8Array(numBytes);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

/** The first broken rule, its place written as OpenAI does: `messages[0].content`. */
export function schemaFailure(error: z.ZodError): Failure {
  const issue = error.issues[0]!;
  const param = issue.path.reduce<string>(
    (path, step) =>
      typeof step === 'number' ? `${path}[${step}]` : path === '' ? String(step) : `${path}.${String(step)}`,
    '',
  );
  const reason = param === '' ? issue.message : `${param}: ${issue.message}`;
  return { code: 'invalid_request', param: param === '' ? null : param, reason };
}

/** Submits the job and puts its id and the account's remaining limits into the answer's headers. */
export async function submit(c: ApiContext, request: JobRequest, options: SubmitOptions): Promise<Outcome<Submission>> {
  const outcome = metered(c, await c.var.service.submit(c.var.caller, request, c.req.raw.signal, options));
  const jobId = outcome.ok ? outcome.value.jobId : outcome.headers['x-request-id'];
  if (jobId !== undefined) nameRequest(c, jobId);
  if (!outcome.ok) return outcome;
  if (outcome.value.replayed) c.header('idempotent-replayed', 'true');
  return outcome;
}

/** The model a body asks for; null is the default: none named, TGI's "tgi", or the endpoint's own URL, which Hugging Face's client sends. */
export function modelOf(name: string | null | undefined): string | null {
  const isDefault = name === null || name === undefined || name === '' || name === 'tgi' || /^https?:\/\//i.test(name);
  return isDefault ? null : name;
}

/** A seed for a request that names none: 53 bits, so that JSON carries it exactly. */
export function randomSeed(): number {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return (words[0]! % 2 ** 21) * 2 ** 32 + words[1]!;
}
