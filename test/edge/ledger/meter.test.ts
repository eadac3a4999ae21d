/** Meter: Stripe counts every token once, whatever is lost on the way and however late it comes. */
import { runDurableObjectAlarm } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import type { MeterEvent } from '../../../edge/ledger/meter.ts';
import { answered, eventsOf, judged, nextStep, sending } from '../../../edge/ledger/meter.ts';
import type { Entry } from '../../../edge/ledger/storage.ts';
import { admin, newAccount, type TestAccount } from '../edge-under-test.ts';
import { seeded } from './seeded.ts';

const HOUR_MS = 3_600_000;
const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
const startMs = 1_800_000_000_000;

function entry(
  seq: number,
  settledMs: number,
  promptTokens: number,
  cachedTokens: number,
  completionTokens: number,
): Entry {
  const ids = { seq, jobId: `job-${seq}`, keyId: 'key', user: null, model: 'm', tariff, backend: 'wasm' };
  const tokens = { promptTokens, cachedTokens, completionTokens };
  return { ...ids, ...tokens, createdMs: settledMs, settledMs, costPico: 0n, status: 'completed' };
}

test('events have the sum of their rows, one a class, under a name that the same rows always have', () => {
  const rows = [entry(4, startMs, 10, 3, 2), entry(5, startMs + 1500, 1, 0, 4)];
  const events = eventsOf('Account00001', 'cus_1', rows, 7);
  expect(events.map(({ identifier, value, name }) => [identifier, value, name])).toEqual([
    ['nbl-Account00001-4-5-prompt', 8, 'nibble_prompt_tokens'],
    ['nbl-Account00001-4-5-cached', 3, 'nibble_cached_prompt_tokens'],
    ['nbl-Account00001-4-5-completion', 6, 'nibble_completion_tokens'],
  ]);
  expect(events[0]).toMatchObject({ timestampS: startMs / 1000 + 1, state: 'planned', customer: 'cus_1' });
  expect(eventsOf('Account00001', 'cus_1', [entry(6, 0, 0, 0, 0)], 7)).toEqual([]);
});

test('requests are counted too where their price has a part for each, and they were billed', () => {
  const priced = { ...tariff, requestMicroUsd: 2 };
  const rows = [entry(1, startMs, 10, 0, 2), entry(2, startMs, 10, 0, 2), entry(3, startMs, 0, 0, 0)];
  const [plain, ...withPart] = rows;
  const events = eventsOf('Account00001', 'cus_1', [plain!, ...withPart.map((row) => ({ ...row, tariff: priced }))], 7);
  expect(events.map(({ identifier, value, name }) => [identifier, value, name])).toEqual([
    ['nbl-Account00001-1-3-prompt', 20, 'nibble_prompt_tokens'],
    ['nbl-Account00001-1-3-completion', 4, 'nibble_completion_tokens'],
    ['nbl-Account00001-1-3-requests', 1, 'nibble_requests'],
  ]);
});

/** Stripe by its documentation: an identifier is known for 24 hours. */
class Stripe {
  counted = 0;
  readonly #known = new Map<string, number>();
  take(event: MeterEvent, nowMs: number): 'new' | 'known' {
    const takenMs = this.#known.get(event.identifier);
    if (takenMs !== undefined && nowMs - takenMs < 24 * HOUR_MS) return 'known';
    this.#known.set(event.identifier, nowMs);
    this.counted += event.value;
    return 'new';
  }
}

test('in 2,000 histories of lost requests, lost answers and outages of days, nothing is counted twice, and all of it unless a person is called', () => {
  let numDisputed = 0;
  for (let seed = 1; seed <= 2000; seed++) {
    const random = seeded(seed);
    const stripe = new Stripe();
    let nowMs = startMs + 60_000;
    let [event] = eventsOf('Account00001', 'cus', [entry(1, startMs, 100, 0, 0)], nowMs);
    while (event!.nextMs !== null) {
      // Sometimes the object sleeps for days.
      nowMs = event!.nextMs + (random(4) === 0 ? random(60 * HOUR_MS) : random(1000));
      const step = nextStep(event!, nowMs);
      if (step === 'give up') {
        event = { ...event!, state: 'disputed', nextMs: null };
        break;
      }
      if (step === 'ask') {
        event = judged(event!, stripe.counted, [], nowMs);
        continue;
      }
      event = sending(event!, nowMs);
      const luck = random(3);
      if (luck !== 0) stripe.take(event, nowMs);
      event = answered(
        event,
        luck === 2 && random(2) === 0 ? { kind: 'taken' } : { kind: 'unclear', reason: 'lost' },
        nowMs,
      );
    }
    expect(stripe.counted).toBeLessThanOrEqual(100);
    if (event!.state === 'counted') expect(stripe.counted).toBe(100);
    else numDisputed += 1;
  }
  expect(numDisputed).toBeLessThan(20);
});

test('a sum that fits neither is left to a person', () => {
  const [event] = eventsOf('Account00001', 'cus', [entry(1, startMs, 100, 0, 0)], 0);
  expect(judged(event!, 37, [], 0)).toMatchObject({ state: 'disputed', nextMs: null });
  const open: MeterEvent = { ...event!, identifier: 'other', state: 'sent', value: 100 };
  expect(judged(event!, 100, [open], 0).state).toBe('disputed');
  expect(judged(event!, 0, [open], 0).state).toBe('planned');
  expect(judged(event!, 300, [{ ...open, state: 'counted', value: 200 }], 0).state).toBe('counted');
});

afterEach(() => void vi.useRealTimers());

const outside = async (method: string, path: string, body?: unknown) => {
  const response = await fetch(`${env.OUTSIDE}${path}`, {
    method,
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return response.text();
};

async function usedBy(account: TestAccount, completionTokens: number): Promise<void> {
  const object = env.ACCOUNT.getByName(account.id);
  const { accountId: _, ...presented } = account.caller;
  const bounds = { promptTokens: 10, completionTokens: 14 };
  const admitted = await object.admit({
    ...presented,
    jobId: randomBase62(22),
    user: null,
    idempotency: null,
    model: 'm',
    queue: 'm#0',
    tariff,
    ...bounds,
  });
  if (!admitted.ok || admitted.value.kind !== 'new') throw new Error('not admitted');
  const { jobId, keyId, createdMs } = admitted.value.grant;
  const usage = { promptTokens: 10, cachedTokens: 0, completionTokens, costPicoUsd: 0 };
  await object.settle([{ jobId, keyId, createdMs, model: 'm', tariff, usage, status: 'completed', backend: 'wasm' }]);
}

test('through Stripe’s own client: what was counted without an answer is not counted again a day later, and what was lost is', async () => {
  const account = await newAccount();
  const object = env.ACCOUNT.getByName(account.id);
  await usedBy(account, 1);
  const customer = `cus_${account.id}`;
  await admin('PATCH', `/accounts/${account.id}`, { stripe_customer: customer });
  await usedBy(account, 4);
  await usedBy(account, 3);
  // The completion event is counted and its answer lost; the prompt event is lost.
  await outside('PUT', `/fates/${customer}`, ['unanswered', 'lost']);
  let nowMs = Date.now();
  const travel = async (ms: number) => {
    nowMs += ms;
    vi.useFakeTimers({ toFake: ['Date'], now: nowMs });
    await outside('PUT', '/clock/', nowMs);
    await runDurableObjectAlarm(object);
  };
  await travel(301_000);
  expect(JSON.parse(await outside('GET', `/counted/${customer}`))).toEqual({ nibble_completion_tokens: 7 });
  // Beyond the day in which Stripe would have known the identifiers.
  await travel(30 * HOUR_MS);
  await travel(60_000);
  await travel(60_000);
  const all = { nibble_prompt_tokens: 20, nibble_completion_tokens: 7 };
  expect(JSON.parse(await outside('GET', `/counted/${customer}`))).toEqual(all);
  await travel(30 * HOUR_MS);
  expect(JSON.parse(await outside('GET', `/counted/${customer}`))).toEqual(all);
  vi.useRealTimers();
  await outside('PUT', '/clock/', null);
});
