/** Account: reservations under concurrency, settlement exactly once, limits and keys. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import type { AdmitRequest, SettleRequest } from '../../../edge/ledger/grant.ts';
import {
  ALL_ROWS,
  admin,
  call,
  idleModel,
  jobRequest,
  moneyOf,
  newAccount,
  newModel,
  queueOf,
  readAll,
  rowOf,
  service,
  submit,
  type TestAccount,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
/** 10 · 3 + 14 · 5 = 100 pico-USD. */
const hundred = { promptTokens: 10, completionTokens: 14 };

afterEach(() => {
  vi.useRealTimers();
});

function objectOf(account: TestAccount) {
  return env.ACCOUNT.getByName(account.id);
}

function admitRequest(account: TestAccount, overrides: Partial<AdmitRequest> = {}): AdmitRequest {
  const { accountId: _, ...presented } = account.caller;
  return {
    ...presented,
    jobId: randomBase62(22),
    user: null,
    idempotency: null,
    model: 'm',
    queue: 'm#0',
    tariff,
    ...hundred,
    ...overrides,
  };
}

async function admitted(account: TestAccount): Promise<string> {
  const outcome = await objectOf(account).admit(admitRequest(account));
  if (!outcome.ok) throw new Error(outcome.failure.code);
  return outcome.value.jobId;
}

function settlement(account: TestAccount, jobId: string, completionTokens: number): SettleRequest {
  return {
    jobId,
    keyId: account.caller.keyId,
    createdMs: 1_000,
    model: 'm',
    tariff,
    usage: { promptTokens: 10, cachedTokens: 0, completionTokens, costPicoUsd: 30 + 5 * completionTokens },
    status: 'completed',
    backend: 'reference',
  };
}

test('of 50 requests at once on a budget for 10, exactly 10 are admitted', async () => {
  const account = await newAccount({ credit_usd: '0.000000001' });
  const outcomes = await Promise.all(Array.from({ length: 50 }, () => objectOf(account).admit(admitRequest(account))));
  expect(outcomes.filter((outcome) => outcome.ok).length).toBe(10);
  const refused = outcomes.find((outcome) => !outcome.ok);
  expect(refused).toMatchObject({
    failure: { code: 'budget_exceeded', requiredPicoUsd: '100', availablePicoUsd: '0' },
  });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '1000' });
});

test('what a job does not use can be spent again', async () => {
  const account = await newAccount({ credit_usd: '0.0000000001' });
  const jobId = await admitted(account);
  expect((await objectOf(account).admit(admitRequest(account))).ok).toBe(false);
  await objectOf(account).settle([settlement(account, jobId, 1)]);
  const small = admitRequest(account, { promptTokens: 10, completionTokens: 7 });
  expect((await objectOf(account).admit(small)).ok).toBe(true);
  expect(await moneyOf(account)).toEqual({ spent: '35', reserved: '65' });
});

test('a settlement that comes twice is booked once, and a release after it does nothing', async () => {
  const account = await newAccount();
  const jobId = await admitted(account);
  const request = settlement(account, jobId, 4);
  await objectOf(account).settle([request, request]);
  await objectOf(account).settle([{ ...request, usage: { ...request.usage, completionTokens: 14 } }]);
  await objectOf(account).release(jobId);
  expect(await moneyOf(account)).toEqual({ spent: '50', reserved: '0' });
  const rows = await service.usage(account.caller, ALL_ROWS);
  expect(rows.ok && rows.value.map((row) => [row.requestId, row.usage.costPicoUsd])).toEqual([[jobId, 50]]);
});

test('a release that comes twice gives back once', async () => {
  const account = await newAccount();
  const [first, second] = [await admitted(account), await admitted(account)];
  await objectOf(account).release(first);
  await objectOf(account).release(first);
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '100' });
  await objectOf(account).release(second);
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '0' });
});

test('after the grant a reservation is released that no queue knows, and kept that one does', async () => {
  const account = await newAccount();
  await admitted(account);
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '159' });
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 36_000 });
  await runDurableObjectAlarm(objectOf(account));
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '59' });
  worker.start(lease);
  worker.tokens(lease, 0, 1);
  worker.finish(lease, 1);
  await rowOf(account, submission.jobId);
  expect(await moneyOf(account)).toEqual({ spent: '14', reserved: '0' });
});

test('a queue refuses a grant that has expired', async () => {
  const account = await newAccount();
  const outcome = await objectOf(account).admit(admitRequest(account));
  if (!outcome.ok) throw new Error(outcome.failure.code);
  const body = JSON.stringify({ grant: { ...outcome.value, expiresMs: 1 }, job: {} });
  const response = await env.QUEUE.getByName('expired#0').fetch('https://queue/jobs', { method: 'POST', body });
  expect(await response.json()).toEqual({ failure: { code: 'grant_expired' } });
});

test('a settlement is sent again until the account takes it', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(2);
  const rename = (from: string, to: string) =>
    runInDurableObject(objectOf(account), (_, state) => {
      state.storage.sql.exec(`ALTER TABLE ${from} RENAME TO ${to}`);
    });
  const submission = await submit(account, jobRequest(model));
  await rename('entry', 'elsewhere');
  const events = await readAll(submission);
  expect(events.at(-1)?.type).toBe('finished');
  await rename('elsewhere', 'entry');
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61_000 });
  await runDurableObjectAlarm(queueOf(model));
  expect(await rowOf(account, submission.jobId)).toMatchObject({ status: 'completed', usage: { costPicoUsd: 19 } });
  expect(await moneyOf(account)).toEqual({ spent: '19', reserved: '0' });
});

test('requests a minute are limited and say when to come back', async () => {
  const account = await newAccount({ limits: { requests_per_min: 2 } });
  const first = await objectOf(account).admit(admitRequest(account));
  expect(first.headers['x-ratelimit-remaining-requests']).toBe('1');
  await admitted(account);
  expect(await objectOf(account).admit(admitRequest(account))).toMatchObject({
    failure: { code: 'rate_limited', limit: 'requests', retryAfterS: 30 },
    headers: { 'x-ratelimit-limit-requests': '2', 'x-ratelimit-remaining-requests': '0' },
  });
});

test('429 for a limit or a full queue and 402 say what is left of the limits', async () => {
  const remaining = (response: Response) => response.headers.get('x-ratelimit-remaining-requests');
  const model = await idleModel();
  const body = { model: model.id, prompt: [1, 2, 3], max_tokens: 10 };
  const poor = await newAccount({ credit_usd: '0', limits: { requests_per_min: 2 } });
  const unpaid = await call('POST', '/v1/completions', poor.apiKey, body);
  expect([unpaid.status, remaining(unpaid)]).toEqual([402, '2']);
  const slow = await newAccount({ limits: { requests_per_min: 0 } });
  const limited = await call('POST', '/v1/completions', slow.apiKey, body);
  expect([limited.status, remaining(limited)]).toEqual([429, '0']);
  const account = await newAccount({ limits: { requests_per_min: 100 } });
  const waiting = await Promise.all(Array.from({ length: 64 }, () => submit(account, jobRequest(model))));
  const crowded = await call('POST', '/v1/completions', account.apiKey, body);
  // 100 − 64 − 1, and what came back while the 64 were sent.
  expect(crowded.status).toBe(429);
  expect(Number(remaining(crowded))).toBeGreaterThanOrEqual(35);
  expect(Number(remaining(crowded))).toBeLessThan(100);
  await Promise.all(waiting.map(({ events }) => events.cancel()));
});

test('tokens a minute are taken at the bound and given back at settlement', async () => {
  const account = await newAccount({ limits: { tokens_per_min: 30 } });
  const jobId = await admitted(account);
  expect(await objectOf(account).admit(admitRequest(account))).toMatchObject({ failure: { limit: 'tokens' } });
  await objectOf(account).settle([settlement(account, jobId, 1)]);
  const small = admitRequest(account, { promptTokens: 10, completionTokens: 5 });
  expect((await objectOf(account).admit(small)).ok).toBe(true);
});

test('concurrency is limited to what runs', async () => {
  const account = await newAccount({ limits: { concurrency: 1 } });
  const jobId = await admitted(account);
  expect(await objectOf(account).admit(admitRequest(account))).toMatchObject({ failure: { limit: 'concurrency' } });
  await objectOf(account).release(jobId);
  await admitted(account);
});

test('keys are held to their scope, their models, their expiry and their revocation', async () => {
  const account = await newAccount();
  const path = `/accounts/${account.id}/keys`;
  const submitWith = async (key: string) => {
    const caller = await service.authenticate(`Bearer ${key}`, null);
    if (!caller.ok) throw new Error('not a key');
    return objectOf(account).admit(admitRequest({ ...account, caller: caller.value }));
  };
  expect(await submitWith(account.workerToken)).toMatchObject({ failure: { code: 'scope_missing', scope: 'client' } });
  const narrow = await admin<{ key: string }>('POST', path, { models: ['other'] });
  expect(await submitWith(narrow.key)).toMatchObject({ failure: { code: 'model_forbidden', model: 'm' } });
  const old = await admin<{ key: string }>('POST', path, { expires_at: 1 });
  expect(await submitWith(old.key)).toMatchObject({ failure: { code: 'invalid_key' } });
  const { id, key } = await admin<{ id: string; key: string }>('POST', path, {});
  expect((await submitWith(key)).ok).toBe(true);
  await admin('DELETE', `${path}/${id}`);
  expect(await submitWith(key)).toMatchObject({ failure: { code: 'invalid_key' } });
  expect((await call('GET', '/v1/account', key)).status).toBe(401);
});
