/** Lines: limits and budget belong to a key and all that it was rotated into, whichever of them is used while they overlap. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import type { AdmitRequest } from '../../../edge/ledger/grant.ts';
import { Ledger } from '../../../edge/ledger/usage-query.ts';
import { admin, newAccount, service, type TestAccount } from '../edge-under-test.ts';
import { CountedReads } from './counted-reads.ts';

const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
interface KeyJson {
  id: string;
  key: string;
  limits: { requests_per_min: number | null } | null;
  budget: { spent_usd: string; reserved_usd: string; hard_usd: string } | null;
}

const objectOf = (account: TestAccount) => env.ACCOUNT.getByName(account.id);
const keysOf = (account: TestAccount) => `/accounts/${account.id}/keys`;
const keyOf = (account: TestAccount, body: object) => admin<KeyJson>('POST', keysOf(account), body);
async function seen(account: TestAccount, id: string): Promise<KeyJson> {
  return (await admin<{ data: KeyJson[] }>('GET', keysOf(account))).data.find((key) => key.id === id)!;
}

/** 10 · 3 + 14 · 5 = 100 pico-USD. */
async function requestOf(key: string): Promise<AdmitRequest> {
  const caller = await service.authenticate(`Bearer ${key}`, null);
  if (!caller.ok) throw new Error('not a key');
  const { accountId: _, ...presented } = caller.value;
  const bounds = { promptTokens: 10, completionTokens: 14 };
  const about = { jobId: randomBase62(22), user: null, idempotency: null, model: 'm', queue: 'm#0', tariff };
  return { ...presented, ...about, ...bounds };
}

async function admit(account: TestAccount, key: string) {
  const request = await requestOf(key);
  return { request, outcome: await objectOf(account).admit(request) };
}

function settle(account: TestAccount, { jobId, keyId }: AdmitRequest, completionTokens = 14): Promise<void> {
  const costPicoUsd = 30 + 5 * completionTokens;
  const usage = { promptTokens: 10, cachedTokens: 0, completionTokens, costPicoUsd };
  const about = { jobId, keyId, createdMs: Date.now(), model: 'm', tariff, backend: null };
  return objectOf(account).settle([{ ...about, usage, status: 'completed' }]);
}

test('a budget set after a rotation lets go of what the old key had reserved', async () => {
  const account = await newAccount();
  const old = await keyOf(account, { limits: { requests_per_min: 100 } });
  const running = await admit(account, old.key);
  const next = await admin<KeyJson>('POST', `${keysOf(account)}/${old.id}/rotate`, {});
  await admin('PATCH', `${keysOf(account)}/${next.id}`, { budget: { hard_usd: '0.0000000002', reset: 'month' } });
  expect((await seen(account, next.id)).budget).toMatchObject({ reserved_usd: '0.0000000001' });
  await settle(account, running.request);
  expect((await seen(account, next.id)).budget).toMatchObject({ reserved_usd: '0', spent_usd: '0.0000000001' });
});

test('the old key of an overlap neither passes the new one’s budget nor makes it forget', async () => {
  const account = await newAccount();
  const old = await keyOf(account, { limits: { requests_per_min: 100 } });
  const next = await admin<KeyJson>('POST', `${keysOf(account)}/${old.id}/rotate`, { overlap_s: 3600 });
  const patched = { budget: { hard_usd: '0.0000000002', reset: 'month' }, limits: { requests_per_min: 50 } };
  await admin('PATCH', `${keysOf(account)}/${next.id}`, patched);
  expect(await seen(account, old.id)).toMatchObject({ limits: { requests_per_min: 50 } });
  const first = await admit(account, next.key);
  const second = await admit(account, old.key);
  expect([first.outcome.ok, second.outcome.ok]).toEqual([true, true]);
  for (const key of [old.key, next.key])
    expect((await admit(account, key)).outcome).toMatchObject({ failure: { of: 'key', availablePicoUsd: '0' } });
  await settle(account, second.request);
  await settle(account, first.request);
  for (const id of [old.id, next.id])
    expect((await seen(account, id)).budget).toMatchObject({ reserved_usd: '0', spent_usd: '0.0000000002' });
});

test('what has nothing to do with a budget does not have it told again', async () => {
  const account = await newAccount();
  const key = await keyOf(account, { budget: { soft_usd: '0.00000000005', reset: 'month' } });
  const told = async () => {
    const log = await admin<{ data: { action: string }[] }>('GET', `/accounts/${account.id}/audit`);
    return log.data.filter(({ action }) => action === 'budget.threshold').length;
  };
  await settle(account, (await admit(account, key.key)).request);
  expect(await told()).toBe(1);
  await admin('PATCH', `${keysOf(account)}/${key.id}`, { name: 'another' });
  await settle(account, (await admit(account, key.key)).request);
  expect(await told()).toBe(1);
});

test('a rotation without an overlap ends the old key, and that is told', async () => {
  const account = await newAccount();
  const key = await keyOf(account, {});
  await admin('POST', `${keysOf(account)}/${key.id}/rotate`, { overlap_s: 60 });
  await admin('POST', `${keysOf(account)}/${key.id}/rotate`, {});
  const log = await admin<{ data: { action: string; target: string }[] }>('GET', `/accounts/${account.id}/audit`);
  expect(log.data.filter(({ action }) => action === 'key.revoked').map(({ target }) => target)).toEqual([key.id]);
});

test('what a budget over many rows counts is read row by row, not all at once into memory', async () => {
  const account = await newAccount();
  const rowsRead = await runInDurableObject(objectOf(account), (_, { storage }) => {
    storage.sql.exec(
      `WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 3000)
       INSERT INTO entry (job_id, key_id, created_ms, model, prompt_tokens, cached_tokens, completion_tokens, cost, tariff, status, backend,
       settled_ms) SELECT 'job-' || n, ?1, ?2, 'm', 1, 0, 1, '1', '{}', 'completed', 'wasm', ?2 FROM number`,
      account.caller.keyId,
      Date.now(),
    );
    const counted = new CountedReads(storage.sql);
    for (const { costPico } of new Ledger(counted.sql).settledSince(0)) {
      expect(costPico).toBe(1n);
      break;
    }
    return counted.rowsRead;
  });
  expect(rowsRead).toBeLessThan(200);
  const path = `${keysOf(account)}/${account.caller.keyId}`;
  const key = await admin<KeyJson>('PATCH', path, { budget: { hard_usd: '1', reset: '30d' } });
  expect(key.budget).toMatchObject({ spent_usd: '0.000000003' });
});

test('a job whose reservation was given back is not admitted again under its id', async () => {
  const account = await newAccount();
  const { request } = await admit(account, account.apiKey);
  await objectOf(account).release(request.jobId);
  expect(await objectOf(account).admit(request)).toMatchObject({ ok: false, failure: { code: 'grant_expired' } });
  await objectOf(account).release(request.jobId);
  await runDurableObjectAlarm(objectOf(account));
  expect(await admin('GET', `/accounts/${account.id}`)).toMatchObject({ reserved_usd: '0' });
});

test('a reservation beside a row that was booked already is given back, and holds up no other', async () => {
  const account = await newAccount();
  const object = objectOf(account);
  const { request } = await admit(account, account.apiKey);
  const other = await admit(account, account.apiKey);
  // As an earlier release could leave it.
  await runInDurableObject(object, (_, { storage }) => {
    storage.sql.exec(
      `INSERT INTO entry (job_id, key_id, created_ms, model, prompt_tokens, cached_tokens, completion_tokens, cost, tariff, status, settled_ms)
       VALUES (?, 'k', 1, 'm', 0, 0, 0, '0', '{}', 'released', 1)`,
      request.jobId,
    );
  });
  await object.release(request.jobId);
  await object.release(other.request.jobId);
  expect(await admin('GET', `/accounts/${account.id}`)).toMatchObject({ reserved_usd: '0' });
  expect((await object.ledgerPage(0, 10)).rows.length).toBe(2);
});

test('two changes of limits that cross each keep what the other set', async () => {
  const account = await newAccount();
  const path = `/accounts/${account.id}`;
  await Promise.all([
    admin('PATCH', path, { limits: { concurrency: 7 } }),
    admin('PATCH', path, { limits: { requests_per_min: 70 } }),
  ]);
  expect(await admin('GET', path)).toMatchObject({ limits: { concurrency: 7, requests_per_min: 70 } });
});
