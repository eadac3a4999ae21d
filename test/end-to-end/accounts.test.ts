/** Accounts from a terminal: what an operator does with `nibble accounts`, `keys` and `usage`, against the edge as a person starts it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nibble, RunningEdge } from './running-edge.ts';

let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start();
}, 120_000);
afterAll(() => edge?.stop());

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await nibble([...args, '--edge', edge.url, '--admin-key', edge.adminKey]);
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  return stdout;
}
const json = async (...args: string[]) => JSON.parse(await run(...args, '--json'));

async function ask(key: string): Promise<Response> {
  const body = { model: edge.models[0], prompt: 'Once', max_tokens: 4, user: 'reader', ignore_eos: true };
  const response = await edge.post('/v1/completions', body, { headers: edge.headers(key) });
  await response.text();
  return response;
}

test('an operator opens an account, makes a key, sees what it used, rotates and revokes it', async () => {
  const id = (await run('accounts', 'create', 'Ada Ltd', '--credit-usd', '1', '--rpm', '60')).trim();
  expect(await json('accounts', 'list')).toMatchObject({ data: [{ name: 'development' }, { id, name: 'Ada Ltd' }] });
  const budget = ['--budget-usd', '0.5', '--budget-reset', '30d'];
  const key = await json('keys', 'create', '--account', id, '--name', 'ci', '--expires', '30d', ...budget);
  expect(key).toMatchObject({ name: 'ci', scopes: ['client'], budget: { hard_usd: '0.5', reset: '30d' } });

  const answer = await ask(key.key);
  expect(answer.status).toBe(200);
  expect(answer.headers.get('x-ratelimit-remaining-requests')).toBe('59');
  const requestId = answer.headers.get('x-request-id')!;
  await expect
    .poll(async () => (await json('usage', '--account', id)).data.length, { timeout: 5_000, interval: 200 })
    .toBe(1);
  const [row] = (await json('usage', '--account', id)).data;
  expect(row).toMatchObject({ request_id: requestId, key_id: key.id, user: 'reader', completion_tokens: 4 });
  const sums = await json('usage', '--account', id, '--group-by', 'user,key', '--start', '1h');
  const results = sums.data.flatMap((bucket: { results: object[] }) => bucket.results);
  expect(results).toMatchObject([{ user: 'reader', key_id: key.id, requests: 1, cost_pico_usd: row.cost_pico_usd }]);
  expect(await run('usage', '--account', id, '--csv')).toContain(`\r\n${requestId},`);

  const rotated = (await run('keys', 'rotate', key.id, '--account', id)).trim();
  expect((await ask(key.key)).status).toBe(401);
  expect((await ask(rotated)).status).toBe(200);
  const keys = (await json('keys', 'list', '--account', id)).data;
  const second = keys.find(({ revoked_at }: { revoked_at: number | null }) => revoked_at === null);
  await run('keys', 'revoke', second.id, '--account', id);
  expect((await ask(rotated)).status).toBe(401);
  expect(await run('accounts', 'audit', id)).toContain('key.revoke');

  await run('accounts', 'credit', id, '2.5', '--reference', 'invoice-1');
  await run('accounts', 'credit', id, '2.5', '--reference', 'invoice-1');
  expect(await json('accounts', 'show', id)).toMatchObject({ credit_usd: '3.5' });
}, 120_000);

test('the reporting copy answers over all accounts, some seconds later', async () => {
  const sums = async () => {
    const { data } = await json('usage', '--group-by', 'account', '--start', '1h', '--bucket', '1h');
    return data.flatMap((bucket: { results: { requests: number }[] }) => bucket.results).length;
  };
  await expect.poll(sums, { timeout: 40_000, interval: 2_000 }).toBe(1);
}, 60_000);

test.each([
  [2, ['keys'], 'needs an action'],
  [2, ['keys', 'create'], '--edge is missing'],
  [2, ['keys', 'create', '--edge', 'https://x', '--admin-key', 'k'], '--account is missing'],
  [2, ['usage', '--edge', 'x', '--admin-key', 'k'], 'a URL such as'],
  [2, ['accounts', 'update', 'id', '--edge', 'https://x', '--admin-key', 'k'], 'nothing to change'],
  [
    2,
    ['keys', 'create', '--account', 'a', '--expires', 'soon', '--edge', 'https://x', '--admin-key', 'k'],
    '--expires is "soon"',
  ],
  [2, ['usage', '--csv', '--edge', 'https://x', '--admin-key', 'k'], '--csv needs --account'],
])('exit %i for nibble %j', async (code, args, sentence) => {
  const ended = await nibble(args);
  expect(ended.code).toBe(code);
  expect(ended.stderr).toContain(sentence);
  expect(ended.stdout).toBe('');
});

test('what the edge refuses is said in its own words, with exit code 1', async () => {
  const { code, stderr } = await nibble([
    'accounts',
    'show',
    'nosuchaccoun',
    '--edge',
    edge.url,
    '--admin-key',
    edge.adminKey,
  ]);
  expect([code, stderr.trim()]).toEqual([1, 'nibble accounts show: the edge answered 404: There is no such account.']);
  const wrong = await nibble(['accounts', 'list', '--edge', edge.url, '--admin-key', 'not-the-key-of-it']);
  expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('401')]);
});
