/** Deliver: sends an account's due events to its webhooks, and puts off what was not taken. */
import { retryMs, signedHeaders } from './webhook.ts';
import type { DueDelivery, WebhookStore } from './webhook-storage.ts';

const TIMEOUT_MS = 10_000;
/** A Durable Object has six connections; what is left is for queues. */
const AT_ONCE = 4;
const KEEP_MS = 30 * 86_400_000;

export async function deliver(store: WebhookStore): Promise<void> {
  await Promise.all(store.due(Date.now(), AT_ONCE).map((delivery) => attempt(store, delivery)));
  store.drop(Date.now() - KEEP_MS);
}

async function attempt(store: WebhookStore, delivery: DueDelivery): Promise<void> {
  const { seq, eventId, url, secret, body, attempts } = delivery;
  const outcome = await post(url, await signedHeaders(secret, eventId, Date.now(), body), body);
  const taken = /^2\d\d$/.test(outcome);
  // Gone: the receiver says that it will not come back.
  store.attempted(seq, outcome, taken || outcome === '410' ? null : retryMs(attempts + 1, Date.now()));
}

/** The answer's status, or why there was none. A redirect is not followed: only the address that was checked is called. */
async function post(url: string, headers: Record<string, string>, body: string): Promise<string> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'manual' });
    await response.body?.cancel();
    return String(response.status);
  } catch (error) {
    return (error as Error).name === 'TimeoutError' ? `no answer within ${TIMEOUT_MS / 1000} s` : 'no connection';
  }
}
