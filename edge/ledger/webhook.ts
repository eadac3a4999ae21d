/** Webhook: events as they are signed and when they are tried again, by the Standard Webhooks specification. Pure but for the platform's HMAC. */
import type { WebhookEvent } from '../api/accounts.ts';

export interface Event {
  id: string;
  type: WebhookEvent;
  createdMs: number;
  data: Record<string, unknown>;
}

const SECRET_PREFIX = 'whsec_';
const SECRET_BYTES = 24;
/** The specification's own schedule: 28 hours in all. */
const DELAYS_S = [5, 300, 1800, 7200, 18_000, 36_000, 36_000];

/** A new secret, shown once. `bytes` fills an array with randomness. */
export function newSecret(bytes = crypto.getRandomValues(new Uint8Array(SECRET_BYTES))): string {
  return SECRET_PREFIX + base64(bytes);
}

export function bodyOf(event: Event): string {
  const { id, type, createdMs, data } = event;
  return JSON.stringify({ id, object: 'event', type, created_at: Math.floor(createdMs / 1000), data });
}

/** What a receiver checks: the time is signed too, so that an old delivery cannot be played again. */
export async function signedHeaders(
  secret: string,
  id: string,
  nowMs: number,
  body: string,
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(nowMs / 1000));
  const bytes = Uint8Array.from(atob(secret.slice(SECRET_PREFIX.length)), (character) => character.charCodeAt(0));
  const key = await crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const mac = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(`${id}.${timestamp}.${body}`));
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${base64(new Uint8Array(mac))}`,
  };
}

/** When to try again after the `attempts`-th failure; null: not any more. */
export function retryMs(attempts: number, nowMs: number): number | null {
  const delayS = DELAYS_S[attempts - 1];
  return delayS === undefined ? null : nowMs + delayS * 1000;
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
