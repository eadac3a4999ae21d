/** Nowhere: rows and events that have no destination any more wait, and do not keep the account's object awake. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import type { Env } from '../../../edge/env.ts';
import { ExportStore } from '../../../edge/ledger/export-storage.ts';
import { Exporter } from '../../../edge/ledger/exporter.ts';
import { LedgerStore } from '../../../edge/ledger/storage.ts';
import { meter, stripeOf } from '../../../edge/ledger/stripe-sink.ts';
import { Ledger } from '../../../edge/ledger/usage-query.ts';
import { admin, newAccount, type TestAccount } from '../edge-under-test.ts';
import { CountedReads } from './counted-reads.ts';

const HOUR_MS = 3_600_000;
const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };

afterEach(() => void vi.useRealTimers());

async function usedBy(account: TestAccount): Promise<void> {
  const object = env.ACCOUNT.getByName(account.id);
  const { accountId: _, ...presented } = account.caller;
  const bounds = { promptTokens: 10, completionTokens: 14 };
  const about = { jobId: randomBase62(22), user: null, idempotency: null, model: 'm', queue: 'm#0', tariff };
  const admitted = await object.admit({ ...presented, ...about, ...bounds });
  if (!admitted.ok || admitted.value.kind !== 'new') throw new Error('not admitted');
  const { jobId, keyId, createdMs } = admitted.value.grant;
  const usage = { promptTokens: 10, cachedTokens: 0, completionTokens: 4, costPicoUsd: 50 };
  await object.settle([{ jobId, keyId, createdMs, model: 'm', tariff, usage, status: 'completed', backend: 'wasm' }]);
}

/** When an exporter with these bindings next wants to be woken, over the storage of this account. */
function nextMsWith(account: TestAccount, bindings: Record<string, unknown>, nowMs: number): Promise<number | null> {
  return runInDurableObject(env.ACCOUNT.getByName(account.id), (_, { storage }) => {
    const [store, ledger, exports] = [LedgerStore, Ledger, ExportStore].map((Store) => new Store(storage.sql)) as [
      LedgerStore,
      Ledger,
      ExportStore,
    ];
    const exporter = new Exporter(
      storage,
      { ...env, ...bindings } as unknown as Env,
      store,
      ledger,
      exports,
      () => undefined,
    );
    return exporter.nextMs(nowMs);
  });
}

test('events for Stripe wait an hour at a time where there is no key of it any more', async () => {
  const account = await newAccount({ stripe_customer: 'cus_nowhere' });
  await usedBy(account);
  // The old customer's events are written down, and due at once.
  await admin('PATCH', `/accounts/${account.id}`, { stripe_customer: 'cus_other' });
  const nowMs = Date.now() + 1000;
  expect(await nextMsWith(account, {}, nowMs)).toBeLessThanOrEqual(nowMs);
  const without = { STRIPE_API_KEY: '' };
  expect(await nextMsWith(account, { ...without, USAGE_QUEUE: undefined }, nowMs)).toBe(nowMs + HOUR_MS);
});

test('rows for the reporting copy wait an hour at a time where there is no queue to it any more', async () => {
  const account = await newAccount();
  await usedBy(account);
  const nowMs = Date.now() + 60_000;
  expect(await nextMsWith(account, {}, nowMs)).toBeLessThanOrEqual(nowMs);
  expect(await nextMsWith(account, { USAGE_QUEUE: undefined }, nowMs)).toBe(nowMs + HOUR_MS);
});

test('an account that has exported everything sets no alarm', async () => {
  const account = await newAccount();
  await usedBy(account);
  const object = env.ACCOUNT.getByName(account.id);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 60_000 });
  await runDurableObjectAlarm(object);
  expect(await runInDurableObject(object, (_, { storage }) => storage.getAlarm())).toBe(null);
});

test('looking for what is to be sent to Stripe does not read what was', async () => {
  const account = await newAccount();
  const rowsRead = await runInDurableObject(env.ACCOUNT.getByName(account.id), (_, { storage }) => {
    const event = { name: 'm', customer: 'cus', value: 1, timestampS: 1, firstSentMs: 1, attempts: 1, reason: null };
    const exports = new ExportStore(storage.sql);
    for (let number = 0; number < 500; number++)
      exports.insertEvent({ ...event, identifier: `counted-${number}`, state: 'counted', nextMs: null });
    exports.insertEvent({ ...event, identifier: 'open', state: 'planned', nextMs: 5 });
    exports.insertEvent({ ...event, identifier: 'stuck', state: 'refused', nextMs: null });
    const counted = new CountedReads(storage.sql);
    const seen = new ExportStore(counted.sql);
    expect(seen.nextEventMs()).toBe(5);
    expect(seen.dueEvents(10, 20).map(({ identifier }) => identifier)).toEqual(['open']);
    expect(seen.stuckEvents().map(({ identifier }) => identifier)).toEqual(['stuck']);
    return counted.rowsRead;
  });
  expect(rowsRead).toBeLessThan(20);
});

test('a Stripe that takes its time is left for the next alarm, since reservations wait for the same one', async () => {
  const account = await newAccount();
  let nowMs = Date.now();
  class SlowStore extends ExportStore {
    override updateEvent(event: Parameters<ExportStore['updateEvent']>[0]): void {
      super.updateEvent(event);
      nowMs += 10_000;
      vi.setSystemTime(nowMs);
    }
  }
  const states = await runInDurableObject(env.ACCOUNT.getByName(account.id), async (_, { storage }) => {
    const store = new SlowStore(storage.sql);
    const timestampS = Math.floor(nowMs / 1000);
    const event = { name: 'm', customer: `cus_${account.id}`, value: 1, timestampS, firstSentMs: null, attempts: 0 };
    for (const number of [1, 2, 3])
      store.insertEvent({
        ...event,
        identifier: `slow-${account.id}-${number}`,
        state: 'planned',
        nextMs: number,
        reason: null,
      });
    vi.useFakeTimers({ toFake: ['Date'], now: nowMs });
    await meter(stripeOf(env as Env)!, store);
    vi.useRealTimers();
    return storage.sql.exec<{ state: string }>('SELECT state FROM meter_event ORDER BY identifier').toArray();
  });
  expect(states.map(({ state }) => state)).toEqual(['counted', 'planned', 'planned']);
});
