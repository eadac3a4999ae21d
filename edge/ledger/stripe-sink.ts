/** Stripe sink: sends an account's meter events through Stripe's own client, and asks Stripe for its sums where a resend would be a guess. */
import Stripe from 'stripe';
import type { Env } from '../env.ts';
import type { ExportStore } from './export-storage.ts';
import type { Answer, MeterEvent } from './meter.ts';
import { abandoned, answered, judged, minuteOf, nextStep, sending } from './meter.ts';

/** Stripe takes a thousand a second for all accounts together. */
const AT_ONCE = 20;
const TIMEOUT_MS = 20_000;
/** No event is begun after so long: the alarm that gives reservations back waits meanwhile. */
const ROUND_MS = 15_000;

/** Null where the operator has no Stripe key. */
export function stripeOf(env: Env): Stripe | null {
  if (env.STRIPE_API_KEY === undefined || env.STRIPE_API_KEY === '') return null;
  const base = env.STRIPE_API_BASE === undefined ? null : new URL(env.STRIPE_API_BASE);
  return new Stripe(env.STRIPE_API_KEY, {
    httpClient: Stripe.createFetchHttpClient(),
    // Attempts are counted and written down here.
    maxNetworkRetries: 0,
    timeout: TIMEOUT_MS,
    telemetry: false,
    ...(base !== null && {
      host: base.hostname,
      port: base.port,
      protocol: base.protocol === 'http:' ? ('http' as const) : ('https' as const),
    }),
  });
}

/** Does the next step of every due event. Each step is kept before and after: an interruption leaves an event that is tried again. */
export async function meter(stripe: Stripe, store: ExportStore): Promise<void> {
  const endMs = Date.now() + ROUND_MS;
  for (const event of store.dueEvents(Date.now(), AT_ONCE)) {
    if (Date.now() >= endMs) break;
    const step = nextStep(event, Date.now());
    switch (step) {
      case 'send': {
        const sent = sending(event, Date.now());
        store.updateEvent(sent);
        store.updateEvent(answered(sent, await send(stripe, sent), Date.now()));
        break;
      }
      case 'ask':
        store.updateEvent(await ask(stripe, store, event));
        break;
      case 'give up':
        store.updateEvent(abandoned(event, 'Stripe takes no event of more than 35 days'));
        break;
      default:
        step satisfies never;
    }
  }
  for (const { identifier, state, reason } of store.stuckEvents())
    console.error({ event: 'meter_event_stuck', identifier, state, reason });
}

async function send(stripe: Stripe, event: MeterEvent): Promise<Answer> {
  try {
    await stripe.billing.meterEvents.create({
      event_name: event.name,
      payload: { stripe_customer_id: event.customer, value: String(event.value) },
      identifier: event.identifier,
      timestamp: event.timestampS,
    });
    return { kind: 'taken' };
  } catch (error) {
    return answerOf(error);
  }
}

/** What an error says: Stripe knows the identifier already, will never take the event, or may have taken it. */
export function answerOf(error: unknown): Answer {
  if (!(error instanceof Stripe.errors.StripeError)) return { kind: 'unclear', reason: String(error) };
  const { message, statusCode } = error;
  if (statusCode === 400 && /already exists with identifier/i.test(message)) return { kind: 'taken' };
  // Wrong for good: the customer, the meter, the value. A wrong key (401, 403) is mended by the operator, and 429 by waiting.
  if (statusCode === 400 || statusCode === 404) return { kind: 'refused', reason: message };
  return { kind: 'unclear', reason: `${statusCode ?? 'no answer'}: ${message}` };
}

async function ask(stripe: Stripe, store: ExportStore, event: MeterEvent): Promise<MeterEvent> {
  try {
    const { fromS, toS } = minuteOf(event);
    const counted = await countedBy(stripe, event, fromS, toS);
    const all = store.eventsWithin(event.name, event.customer, fromS, toS);
    const others = all.filter(({ identifier }) => identifier !== event.identifier);
    return judged(event, counted, others, Date.now());
  } catch (error) {
    const attempted = { ...event, attempts: event.attempts + 1 };
    const reason = error instanceof Error ? error.message : String(error);
    return answered(attempted, { kind: 'unclear', reason }, Date.now());
  }
}

/** Stripe's sum of a meter for a customer over a minute. */
async function countedBy(stripe: Stripe, event: MeterEvent, fromS: number, toS: number): Promise<number> {
  for await (const meter of stripe.billing.meters.list({ limit: 100 })) {
    if (meter.event_name !== event.name) continue;
    const range = { customer: event.customer, start_time: fromS, end_time: toS };
    let counted = 0;
    for await (const summary of stripe.billing.meters.listEventSummaries(meter.id, range))
      counted += summary.aggregated_value;
    return counted;
  }
  throw new Error(`Stripe has no meter with the event name "${event.name}"`);
}
