/** Keys: their own limits and budgets, and what a rotation leaves as it was. */
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import type { AdmitRequest } from '../../../edge/ledger/grant.ts';
import { admin, call, newAccount, service, type TestAccount } from '../edge-under-test.ts';

const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
interface KeyJson {
  id: string;
  key: string;
  redacted: string;
  budget: { spent_usd: string; reserved_usd: string } | null;
  revoked_at: number | null;
  expires_at: number | null;
}

/** 10 · 3 + 14 · 5 = 100 pico-USD and 24 tokens. */
async function admit(account: TestAccount, key: string) {
  const caller = await service.authenticate(`Bearer ${key}`, null);
  if (!caller.ok) throw new Error('not a key');
  const { accountId: _, ...presented } = caller.value;
  const request: AdmitRequest = {
    ...presented,
    jobId: randomBase62(22),
    user: null,
    idempotency: null,
    model: 'm',
    queue: 'm#0',
    tariff,
    promptTokens: 10,
    completionTokens: 14,
  };
  return env.ACCOUNT.getByName(account.id).admit(request);
}

function keyOf(account: TestAccount, body: object): Promise<KeyJson> {
  return admin<KeyJson>('POST', `/accounts/${account.id}/keys`, body);
}

test('a key has limits of its own beside its account’s, and headers show the narrower', async () => {
  const account = await newAccount();
  const narrow = await keyOf(account, { limits: { requests_per_min: 2, concurrency: 2 } });
  const first = await admit(account, narrow.key);
  expect(first.headers).toMatchObject({
    'x-ratelimit-limit-requests': '2',
    'x-ratelimit-remaining-requests': '1',
    'x-ratelimit-limit-tokens': '100000000',
  });
  await admit(account, narrow.key);
  expect(await admit(account, narrow.key)).toMatchObject({ failure: { code: 'rate_limited', limit: 'concurrency' } });
  expect((await admit(account, account.apiKey)).ok).toBe(true);
  const seen = await call('GET', '/v1/models', narrow.key);
  expect(seen.headers.get('x-ratelimit-remaining-requests')).toBe('0');
});

test('a rotation hands on what is left of the budget, and ends the old key at once or after the overlap', async () => {
  const account = await newAccount();
  const made = await keyOf(account, { budget: { hard_usd: '0.00000000025', reset: 'month' } });
  expect(made.redacted).toBe(`${made.key.slice(0, 12)}…${made.key.slice(-4)}`);
  expect((await admit(account, made.key)).ok).toBe(true);
  const keys = `/accounts/${account.id}/keys`;
  const second = await admin<KeyJson>('POST', `${keys}/${made.id}/rotate`, {});
  expect(await admit(account, made.key)).toMatchObject({ failure: { code: 'invalid_key' } });
  expect((await admit(account, second.key)).ok).toBe(true);
  expect(await admit(account, second.key)).toMatchObject({
    failure: { code: 'budget_exceeded', of: 'key', availablePicoUsd: '50' },
  });
  const third = await admin<KeyJson>('POST', `${keys}/${second.id}/rotate`, { overlap_s: 3600 });
  for (const { key } of [second, third])
    expect(await admit(account, key)).toMatchObject({ failure: { code: 'budget_exceeded', availablePicoUsd: '50' } });
  expect((await call('POST', `/admin${keys}/${made.id}/rotate`, 'admin-key-of-the-tests', {})).status).toBe(409);
  const listed = await admin<{ data: KeyJson[] }>('GET', keys);
  expect(listed.data.find(({ id }) => id === second.id)?.expires_at).toBeGreaterThan(Date.now() / 1000);
});

test('a budget that is set later counts what the ledger knows of its window', async () => {
  const account = await newAccount();
  const outcome = await admit(account, account.apiKey);
  if (!outcome.ok) throw new Error(outcome.failure.code);
  if (outcome.value.kind !== 'new') throw new Error('a key that was never used is known');
  const { jobId, keyId, createdMs } = outcome.value.grant;
  const usage = { promptTokens: 10, cachedTokens: 0, completionTokens: 4, costPicoUsd: 50 };
  await env.ACCOUNT.getByName(account.id).settle([
    { jobId, keyId, createdMs, model: 'm', tariff, usage, status: 'completed', backend: null },
  ]);
  await admit(account, account.apiKey);
  const path = `/accounts/${account.id}/keys/${account.caller.keyId}`;
  const counted = await admin<KeyJson>('PATCH', path, { budget: { hard_usd: '0.0000000002', reset: 'day' } });
  expect(counted.budget).toMatchObject({ spent_usd: '0.00000000005', reserved_usd: '0.0000000001' });
  expect(await admit(account, account.apiKey)).toMatchObject({ failure: { of: 'key', availablePicoUsd: '50' } });
  await admin('PATCH', path, { budget: null });
  expect((await admit(account, account.apiKey)).ok).toBe(true);
});

test('a payment that is sent twice is credited once, and a reference names one amount', async () => {
  const account = await newAccount({ credit_usd: '1' });
  const path = `/accounts/${account.id}/credits`;
  await admin('POST', path, { credit_usd: '2', reference: 'invoice-1' });
  expect(await admin('POST', path, { credit_usd: '2', reference: 'invoice-1' })).toMatchObject({ credit_usd: '3' });
  expect(
    (await call('POST', `/admin${path}`, 'admin-key-of-the-tests', { credit_usd: '5', reference: 'invoice-1' })).status,
  ).toBe(409);
  expect(await admin('GET', path)).toMatchObject({
    data: [
      { reference: 'invoice-1', credit_usd: '2' },
      { reference: 'opening', credit_usd: '1' },
    ],
  });
});

test('every change is in the audit log, without a secret', async () => {
  const account = await newAccount();
  const made = await keyOf(account, { name: 'ci' });
  await admin('PATCH', `/accounts/${account.id}/keys/${made.id}`, { name: 'ci 2' });
  await admin('DELETE', `/accounts/${account.id}/keys/${made.id}`);
  await admin('PATCH', `/accounts/${account.id}`, { limits: { concurrency: 3 } });
  const log = await admin<{ data: { actor: string; action: string }[] }>('GET', `/accounts/${account.id}/audit`);
  const actions = log.data.map(({ action }) => action);
  expect(actions.slice(0, 5)).toEqual(['account.update', 'key.revoked', 'key.revoke', 'key.update', 'key.create']);
  expect(actions.at(-1)).toBe('account.create');
  expect(JSON.stringify(log)).not.toContain(made.key.slice(25, 57));
  // Page by page it is the same.
  const paged: { seq: number; action: string }[] = [];
  for (let more = true; more; ) {
    const before = paged.length === 0 ? '' : `&before=${paged.at(-1)!.seq}`;
    const page = await admin<{ data: typeof paged; has_more: boolean }>(
      'GET',
      `/accounts/${account.id}/audit?limit=2${before}`,
    );
    paged.push(...page.data);
    more = page.has_more;
  }
  expect(paged).toEqual(log.data);
});

test('a settlement of what was never admitted here, or above what was reserved, is nobody’s debt', async () => {
  const account = await newAccount();
  const object = env.ACCOUNT.getByName(account.id);
  const usage = { promptTokens: 10, cachedTokens: 0, completionTokens: 1000, costPicoUsd: 5030 };
  const about = {
    keyId: account.caller.keyId,
    createdMs: 1,
    model: 'm',
    tariff,
    usage,
    status: 'completed',
    backend: null,
  } as const;
  await object.settle([{ ...about, jobId: 'unknown' }]);
  const outcome = await admit(account, account.apiKey);
  if (!outcome.ok) throw new Error(outcome.failure.code);
  await object.settle([{ ...about, jobId: outcome.value.jobId }]);
  expect(await admin('GET', `/accounts/${account.id}`)).toMatchObject({ spent_usd: '0', reserved_usd: '0' });
  const rows = await admin<{ data: object[] }>('GET', `/accounts/${account.id}/usage`);
  expect(rows.data).toMatchObject([{ request_id: outcome.value.jobId, status: 'failed', completion_tokens: 0 }]);
});
