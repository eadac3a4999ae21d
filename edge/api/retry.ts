/** Retry: what a request's Idempotency-Key and Last-Event-ID ask for. */
import type { Failure } from '../../core/errors.ts';
import { type ApiContext, randomSeed } from './request.ts';
import type { Idempotency, Outcome } from './service.ts';

export interface Retry {
  idempotency: Idempotency | null;
  /** What of the answer the client has, as the ids of its events count it; null: it wants all. */
  resumeFrom: number | null;
  /** For a request that names no seed: the same for every try under a key, so that an answer that names its seed is repeated too. */
  seed: number;
}

/** 1 to 255 visible ASCII characters. */
const KEY = /^[!-~]{1,255}$/;
/** No context has more than 2²² tokens. */
const EVENT_ID = /^\d{1,7}$/;
/** No request that a route takes is nested deeper. */
const MAX_DEPTH = 64;

/** Reads the headers of a request whose body was read, but not yet checked. */
export async function retryOf(c: ApiContext, body: unknown): Promise<Outcome<Retry>> {
  const key = c.req.header('idempotency-key');
  const eventId = c.req.header('last-event-id');
  if (eventId !== undefined && !EVENT_ID.test(eventId))
    return invalidHeader('Last-Event-ID', 'must be the id of an event of the stream, a number');
  if (key === undefined)
    return eventId === undefined
      ? { ok: true, value: { idempotency: null, resumeFrom: null, seed: randomSeed() } }
      : invalidHeader('Last-Event-ID', 'only with the Idempotency-Key of the stream that it resumes');
  if (!KEY.test(key)) return invalidHeader('Idempotency-Key', 'must be 1 to 255 visible ASCII characters');
  const text = canonical(body, 0);
  if (text === null)
    return invalidHeader(
      'Idempotency-Key',
      `the body is nested deeper than ${MAX_DEPTH}, so it cannot be told from another`,
    );
  const bodyHash = await sha256(`${c.req.path}\n${text}`);
  const ifNew = eventId === undefined ? 'run' : 'refuse';
  // 52 bits of a hash.
  const seed = Number.parseInt((await sha256(`${c.var.caller.accountId}\n${key}\n${bodyHash}`)).slice(0, 13), 16);
  const resumeFrom = eventId === undefined ? null : Number(eventId);
  return { ok: true, value: { idempotency: { key, bodyHash, ifNew }, resumeFrom, seed } };
}

export function invalidHeader(header: string, reason: string): { ok: false; failure: Failure } {
  return { ok: false, failure: { code: 'invalid_header', header, reason } };
}

/** JSON with the keys of every object in one order; null when it is nested too deep. */
function canonical(value: unknown, depth: number): string | null {
  if (depth > MAX_DEPTH) return null;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const parts: string[] = [];
  const entries = Array.isArray(value) ? value.map((item) => ['', item] as const) : sortedEntries(value);
  for (const [name, item] of entries) {
    const text = canonical(item, depth + 1);
    if (text === null) return null;
    parts.push(name + text);
  }
  return Array.isArray(value) ? `[${parts.join(',')}]` : `{${parts.join(',')}}`;
}

function sortedEntries(value: object): (readonly [string, unknown])[] {
  const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return entries.map(([name, item]) => [`${JSON.stringify(name)}:`, item]);
}

async function sha256(text: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
