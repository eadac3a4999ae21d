/** Price book: which price holds when, through the catalog and over HTTP. */
import { env } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import { CATALOG_NAME } from '../../../edge/catalog/object.ts';
import { nextChangeMs, priceAt } from '../../../edge/ledger/price-book.ts';
import { ADMIN_KEY, admin, call, idleModel } from '../edge-under-test.ts';

const version = (effectiveFromMs: number) => ({
  promptMicroUsdPerMtok: 1,
  completionMicroUsdPerMtok: 2,
  effectiveFromMs,
});

afterEach(() => void vi.useRealTimers());

test('the latest that has begun holds, in whatever order they were written', () => {
  const book = [version(300), version(100), version(200)];
  expect([99, 100, 250, 1000].map((nowMs) => priceAt(book, nowMs)?.effectiveFromMs ?? null)).toEqual([
    null,
    100,
    200,
    300,
  ]);
  expect([99, 100, 300].map((nowMs) => nextChangeMs(book, nowMs))).toEqual([100, 200, null]);
});

test('a price that begins later holds from its moment, with what cached tokens and a request cost', async () => {
  const model = await idleModel();
  const laterS = Math.floor(Date.now() / 1000) + 3600;
  const prices = { prompt_micro_usd_per_mtok: 10, completion_micro_usd_per_mtok: 20 };
  await admin('POST', '/prices', { model: model.id, ...prices });
  const later = { cached_prompt_micro_usd_per_mtok: 1, request_micro_usd: 5, effective_from: laterS };
  await admin('POST', '/prices', { model: model.id, ...prices, ...later });
  const catalog = env.CATALOG.getByName(CATALOG_NAME);
  expect((await catalog.get(model.id))!.tariff).not.toHaveProperty('requestMicroUsd');
  vi.useFakeTimers({ toFake: ['Date'], now: laterS * 1000 });
  expect((await catalog.get(model.id))!.tariff).toMatchObject({
    cachedPromptMicroUsdPerMtok: 1,
    requestMicroUsd: 5,
    effectiveFromMs: laterS * 1000,
  });
  const listed = await admin<{ data: object[] }>('GET', `/prices?model=${encodeURIComponent(model.id)}`);
  expect(listed.data.length).toBe(2);
});

test('a price from the second that runs holds from now', async () => {
  const model = await idleModel();
  const nowMs = Math.floor(Date.now() / 1000) * 1000 + 700;
  vi.useFakeTimers({ toFake: ['Date'], now: nowMs });
  const body = { model: model.id, prompt_micro_usd_per_mtok: 7, completion_micro_usd_per_mtok: 8 };
  await admin('POST', '/prices', { ...body, effective_from: Math.floor(nowMs / 1000) });
  const { tariff } = (await env.CATALOG.getByName(CATALOG_NAME).get(model.id))!;
  expect(tariff).toMatchObject({ promptMicroUsdPerMtok: 7, effectiveFromMs: nowMs });
});

test('what has held is not changed', async () => {
  const body = {
    model: 'm',
    prompt_micro_usd_per_mtok: 1,
    completion_micro_usd_per_mtok: 1,
    effective_from: 1_000_000,
  };
  const response = await call('POST', '/admin/prices', ADMIN_KEY, body);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { param: 'effective_from' } });
});
