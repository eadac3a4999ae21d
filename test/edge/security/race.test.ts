/** Race: 200 requests at once on a budget that pays for 50. */
import { expect, test, vi } from 'vitest';
import { admin, call, moneyOf, newAccount, newModel, type TestAccount } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

/** 3 prompt tokens at 3 and 10 completion tokens at 5 pico-USD: what one request is reserved at, and costs. */
const ONE = 59;

const purses: [string, (usd: string) => Promise<TestAccount>][] = [
  ['an account’s credit', (credit_usd) => newAccount({ credit_usd })],
  ['an account’s budget', (hard_usd) => newAccount({ budget: { hard_usd, reset: 'month' } })],
  [
    'a postpaid account’s budget',
    (hard_usd) => newAccount({ credit_usd: '0', billing: 'postpaid', budget: { hard_usd, reset: '1h' } }),
  ],
  [
    'a key’s budget',
    async (hard_usd) => {
      const account = await newAccount();
      const path = `/accounts/${account.id}/keys/${account.caller.keyId}`;
      await admin('PATCH', path, { budget: { hard_usd, reset: 'day' } });
      return account;
    },
  ],
];

test.each(purses)('of 200 concurrent requests on %s for 50, exactly 50 run and 150 are 402', async (_, open) => {
  const account = await open(`0.${String(50 * ONE).padStart(12, '0')}`);
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits: 64 });
  // Nothing ends before all have asked, so that nothing is given back.
  const leases: Parameters<ScriptedWorker['start']>[0][] = [];
  const leased = (async () => {
    while (leases.length < 50) leases.push(await worker.next('lease'));
  })();
  const body = { model: model.id, prompt: [1, 2, 3], max_tokens: 10 };
  let refused = 0;
  const requests = Array.from({ length: 200 }, async () => {
    const response = await call('POST', '/v1/completions', account.apiKey, body);
    if (response.status === 402) refused += 1;
    await response.text();
    return response.status;
  });
  await leased;
  await vi.waitFor(() => expect(refused).toBe(150), { timeout: 20_000 });
  for (const lease of leases) {
    worker.start(lease);
    worker.tokens(lease, 0, 10);
    worker.finish(lease, 10);
  }
  const statuses = await Promise.all(requests);
  expect(statuses.filter((status) => status === 200).length).toBe(50);
  expect(statuses.filter((status) => status === 402).length).toBe(150);
  await vi.waitFor(async () => expect(await moneyOf(account)).toEqual({ spent: String(50 * ONE), reserved: '0' }), {
    timeout: 20_000,
  });
  const more = await call('POST', '/v1/completions', account.apiKey, body);
  expect(more.status).toBe(402);
});
