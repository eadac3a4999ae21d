/** Webhooks: what is told, once, signed, and until it is taken. A real HTTP server receives it. */
import { runDurableObjectAlarm } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import OpenAI from 'openai';
import { afterEach, expect, test, vi } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import type { AdmitRequest } from '../../../edge/ledger/grant.ts';
import { retryMs, signedHeaders } from '../../../edge/ledger/webhook.ts';
import { ADMIN_KEY, admin, call, newAccount, type TestAccount } from '../edge-under-test.ts';

const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
let numHooks = 0;

afterEach(() => void vi.useRealTimers());

const objectOf = (account: TestAccount) => env.ACCOUNT.getByName(account.id);
const outside = (method: string, path: string, body?: unknown) =>
  fetch(`${env.OUTSIDE}${path}`, { method, ...(body !== undefined && { body: JSON.stringify(body) }) });

async function hooked(account: TestAccount, events?: string[]): Promise<{ name: string; secret: string; id: string }> {
  numHooks += 1;
  const name = `webhook-${numHooks}-${account.id}`;
  const body = { url: `${env.OUTSIDE}/hook/${name}`, ...(events && { events }) };
  const made = await admin<{ secret: string; id: string }>('POST', `/accounts/${account.id}/webhooks`, body);
  return { name, secret: made.secret, id: made.id };
}

async function received(name: string): Promise<{ headers: Record<string, string>; body: string }[]> {
  return (await outside('GET', `/log/${name}`)).json();
}

/** 10 · 3 + completion · 5 pico-USD. */
async function spendOne(account: TestAccount, completionTokens: number) {
  const { accountId: _, ...presented } = account.caller;
  const bounds = { promptTokens: 10, completionTokens: 14 };
  const request: AdmitRequest = {
    ...presented,
    jobId: randomBase62(22),
    user: null,
    idempotency: null,
    model: 'm',
    queue: 'm#0',
    tariff,
    ...bounds,
  };
  const admitted = await objectOf(account).admit(request);
  if (!admitted.ok) return admitted;
  if (admitted.value.kind !== 'new') throw new Error('a key that was never used is known');
  const { jobId, keyId, createdMs } = admitted.value.grant;
  const usage = { promptTokens: 10, cachedTokens: 0, completionTokens, costPicoUsd: 30 + 5 * completionTokens };
  const about = { jobId, keyId, createdMs, model: 'm', tariff, backend: 'reference' };
  await objectOf(account).settle([{ ...about, usage, status: 'completed' }]);
  return admitted;
}

test('a budget that is reached and one that is passed are told once, with a signature that OpenAI’s own client accepts', async () => {
  const account = await newAccount({
    budget: { hard_usd: '0.00000000015', soft_usd: '0.0000000001', reset: 'day' },
  });
  const hook = await hooked(account);
  expect((await spendOne(account, 14)).ok).toBe(true);
  expect(await spendOne(account, 14)).toMatchObject({ failure: { code: 'budget_exceeded', of: 'account' } });
  expect(await spendOne(account, 14)).toMatchObject({ failure: { code: 'budget_exceeded', of: 'account' } });
  await runDurableObjectAlarm(objectOf(account));
  const deliveries = await received(hook.name);
  const client = new OpenAI({ apiKey: 'none', webhookSecret: hook.secret, dangerouslyAllowBrowser: true });
  const told = [];
  for (const { headers, body } of deliveries) {
    await client.webhooks.verifySignature(body, headers);
    await expect(client.webhooks.verifySignature(body.replace('budget', 'gadget'), headers)).rejects.toThrow();
    told.push(JSON.parse(body));
  }
  expect(told.map(({ type }) => type).sort()).toEqual(['budget.exceeded', 'budget.threshold']);
  expect(told[0].data).toMatchObject({ account_id: account.id, of: 'account', hard_usd: '0.00000000015' });
});

test('a revoked key is told about, and only to those who asked for it', async () => {
  const account = await newAccount();
  const [all, budgets] = [await hooked(account), await hooked(account, ['budget.exceeded'])];
  await admin('DELETE', `/accounts/${account.id}/keys/${account.caller.keyId}`);
  await admin('DELETE', `/accounts/${account.id}/keys/${account.caller.keyId}`);
  await runDurableObjectAlarm(objectOf(account));
  expect((await received(all.name)).map(({ body }) => JSON.parse(body).type)).toEqual(['key.revoked']);
  expect(await received(budgets.name)).toEqual([]);
});

test('what is not taken comes again under the same id, later each time, and a redirect is not followed', async () => {
  const account = await newAccount();
  const hook = await hooked(account);
  await outside('PUT', `/fates/${hook.name}`, [500, 'lost', 307]);
  await admin('DELETE', `/accounts/${account.id}/keys/${account.caller.keyId}`);
  await runDurableObjectAlarm(objectOf(account));
  await runDurableObjectAlarm(objectOf(account));
  expect((await received(hook.name)).length).toBe(1);
  for (let attempts = 2; attempts <= 4; attempts++) {
    vi.useFakeTimers({ toFake: ['Date'], now: retryMs(attempts - 1, Date.now())! + 1000 });
    await runDurableObjectAlarm(objectOf(account));
    expect((await received(hook.name)).length).toBe(attempts);
  }
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 100_000_000 });
  await runDurableObjectAlarm(objectOf(account));
  const log = await received(hook.name);
  expect(log.length).toBe(4);
  expect(new Set(log.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  expect(await received('elsewhere')).toEqual([]);
  vi.useRealTimers();
  const path = `/accounts/${account.id}/webhooks/${hook.id}/deliveries`;
  expect(await admin('GET', path)).toMatchObject({ data: [{ attempts: 4, outcome: '200', next_attempt: null }] });
});

test('the schedule ends', () => {
  const delays = Array.from({ length: 9 }, (_, at) => retryMs(at + 1, 0));
  expect(delays).toEqual([5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 36_000_000, null, null]);
});

test('the signature is the specification’s own example', async () => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const headers = await signedHeaders(
    secret,
    'msg_p5jXN8AQM9LWM0D4loKWxJek',
    1_614_265_330_000,
    '{"test": 2432232314}',
  );
  expect(headers['webhook-signature']).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});

test.each(['http://example.com/x', 'ftp://example.com', 'https://user:pass@example.com', 'x', ''])(
  'an address such as %j is refused',
  async (url) => {
    const { id } = await newAccount();
    expect((await call('POST', `/admin/accounts/${id}/webhooks`, ADMIN_KEY, { url })).status).toBe(400);
  },
);
