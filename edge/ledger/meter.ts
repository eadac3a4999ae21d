/**
 * Meter: the ledger's rows as events for Stripe's meters, and what to do about each next. Pure. Stripe knows an event's identifier for 24
 * hours only, so an event is written down before it is sent, sent again under its identifier while Stripe must still know that, and after
 * that only once Stripe's own sums say that it was not counted.
 */
import type { Entry } from './storage.ts';

/** `planned`: never sent. `sent`: sent, without an answer. The other three are final; `refused` and `disputed` wait for a person. */
export type MeterState = 'planned' | 'sent' | 'counted' | 'refused' | 'disputed';

export interface MeterEvent {
  /** The account, the span of rows and what of them is counted: the same rows always have the same. */
  identifier: string;
  /** Stripe's `event_name`. */
  name: string;
  customer: string;
  value: number;
  timestampS: number;
  state: MeterState;
  /** The first attempt under this identifier that Stripe may have counted. */
  firstSentMs: number | null;
  attempts: number;
  nextMs: number | null;
  reason: string | null;
}

/** An hour before Stripe forgets: our clock and theirs differ, and a request takes its time. */
const RESEND_WITHIN_MS = 23 * 3_600_000;
/** Stripe takes no timestamp older than 35 days; a day is left for what is under way. */
const MAX_AGE_MS = 34 * 86_400_000;
const MAX_DELAY_MS = 3_600_000;

export const METER_NAMES = {
  prompt: 'nibble_prompt_tokens',
  cached: 'nibble_cached_prompt_tokens',
  completion: 'nibble_completion_tokens',
  /** Of billed requests whose price has a part for each request; where none has, the meter need not be there. */
  requests: 'nibble_requests',
} as const;

/** The events of consecutive rows: one for each class of tokens that occurs, and one for requests. Their sum is the rows' sum. */
export function eventsOf(accountId: string, customer: string, rows: readonly Entry[], nowMs: number): MeterEvent[] {
  const [first, last] = [rows[0], rows.at(-1)];
  if (first === undefined || last === undefined) return [];
  const sum = (of: (row: Entry) => number) => rows.reduce((total, row) => total + of(row), 0);
  const values = {
    prompt: sum(({ promptTokens, cachedTokens }) => promptTokens - cachedTokens),
    cached: sum(({ cachedTokens }) => cachedTokens),
    completion: sum(({ completionTokens }) => completionTokens),
    requests: sum((row) => (isPricedByRequest(row) ? 1 : 0)),
  };
  return (['prompt', 'cached', 'completion', 'requests'] as const)
    .filter((kind) => values[kind] > 0)
    .map((kind) => ({
      identifier: `nbl-${accountId}-${first.seq}-${last.seq}-${kind}`,
      name: METER_NAMES[kind],
      customer,
      value: values[kind],
      timestampS: Math.floor(last.settledMs / 1000),
      state: 'planned',
      firstSentMs: null,
      attempts: 0,
      nextMs: nowMs,
      reason: null,
    }));
}

/** As costPicoUsd has it: a request without a billed token is free. */
function isPricedByRequest({ tariff, promptTokens, completionTokens }: Entry): boolean {
  return (tariff.requestMicroUsd ?? 0) > 0 && promptTokens + completionTokens > 0;
}

/** What to do with an event whose time has come. */
export function nextStep(event: MeterEvent, nowMs: number): 'send' | 'ask' | 'give up' {
  if (nowMs - event.timestampS * 1000 > MAX_AGE_MS) return 'give up';
  if (event.firstSentMs === null || nowMs - event.firstSentMs < RESEND_WITHIN_MS) return 'send';
  return 'ask';
}

/** To be kept before it is sent: from here on it may have been counted. */
export function sending(event: MeterEvent, nowMs: number): MeterEvent {
  return { ...event, state: 'sent', firstSentMs: event.firstSentMs ?? nowMs, attempts: event.attempts + 1 };
}

export type Answer =
  /** Taken now, or known already under this identifier. */
  | { kind: 'taken' }
  | { kind: 'refused'; reason: string }
  /** No answer, or "try later": it may have been counted. */
  | { kind: 'unclear'; reason: string };

export function answered(event: MeterEvent, answer: Answer, nowMs: number): MeterEvent {
  switch (answer.kind) {
    case 'taken':
      return { ...event, state: 'counted', nextMs: null, reason: null };
    case 'refused':
      return { ...event, state: 'refused', nextMs: null, reason: answer.reason };
    case 'unclear': {
      const delayMs = Math.min(MAX_DELAY_MS, 1000 * 2 ** Math.min(event.attempts, 20));
      return { ...event, nextMs: nowMs + delayMs, reason: answer.reason };
    }
    default:
      return answer satisfies never;
  }
}

export function abandoned(event: MeterEvent, reason: string): MeterEvent {
  return { ...event, state: 'disputed', nextMs: null, reason };
}

/**
 * What Stripe's own sum says about an event that it may or may not have counted. `counted` is Stripe's sum over the minute of the event,
 * `others` are our other events of that meter, customer and minute. Where the sum fits neither, nothing is sent: a person decides.
 */
export function judged(event: MeterEvent, counted: number, others: readonly MeterEvent[], nowMs: number): MeterEvent {
  const open = others.filter(({ state }) => state === 'sent' || state === 'disputed');
  const known = others.filter(({ state }) => state === 'counted').reduce((sum, { value }) => sum + value, 0);
  if (open.length === 0 && counted === known + event.value)
    return { ...event, state: 'counted', nextMs: null, reason: null };
  if (counted === known) return { ...event, state: 'planned', firstSentMs: null, nextMs: nowMs, reason: null };
  return abandoned(event, `Stripe counted ${counted} where ${known} or ${known + event.value} was expected`);
}

/** The minute of an event: what Stripe's sums are asked for. */
export function minuteOf(event: MeterEvent): { fromS: number; toS: number } {
  const fromS = event.timestampS - (event.timestampS % 60);
  return { fromS, toS: fromS + 60 };
}
