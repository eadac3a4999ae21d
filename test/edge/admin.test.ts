/** Admin: accounts, credit, keys and prices over HTTP. */
import { expect, test } from 'vitest';
import { ADMIN_KEY, admin, call, jobRequest, newAccount, newModel, readAll, rowOf, submit } from './edge-under-test.ts';
import { ScriptedWorker } from './scripted-worker.ts';

test('only the admin key opens the admin routes', async () => {
  const account = await newAccount();
  for (const [key, status] of [
    [account.apiKey, 403],
    [account.workerToken, 403],
    ['x', 401],
    [`${ADMIN_KEY}x`, 401],
  ] as const)
    expect((await call('GET', `/admin/accounts/${account.id}`, key)).status).toBe(status);
  expect((await call('GET', '/v1/account', ADMIN_KEY)).status).toBe(401);
});

test('an account is opened, topped up and shown, exact to the last place', async () => {
  const opened = await admin<{ id: string }>('POST', '/accounts', { name: 'Ada', credit_usd: 0.1 });
  expect(opened).toMatchObject({ name: 'Ada', credit_usd: '0.1', spent_usd: '0', reserved_usd: '0' });
  await admin('POST', `/accounts/${opened.id}/credits`, { credit_usd: '0.200000000001' });
  expect(await admin('GET', `/accounts/${opened.id}`)).toMatchObject({ id: opened.id, credit_usd: '0.300000000001' });
});

test('a key is shown once, listed without its secret, and revoked', async () => {
  const account = await newAccount();
  const path = `/accounts/${account.id}/keys`;
  const made = await admin<{ id: string; key: string }>('POST', path, { name: 'ci', models: ['m'] });
  expect(made.key).toContain(account.id + made.id);
  const listed = await admin<{ data: { id: string }[] }>('GET', path);
  expect(listed.data.find((key) => key.id === made.id)).toMatchObject({
    name: 'ci',
    scopes: ['client'],
    models: ['m'],
    revoked_at: null,
  });
  expect(JSON.stringify(listed)).not.toContain(made.key.slice(25, 57));
  await admin('DELETE', `${path}/${made.id}`);
  const after = await admin<{ data: { id: string; revoked_at: number | null }[] }>('GET', path);
  expect(after.data.find((key) => key.id === made.id)?.revoked_at).toBeGreaterThan(0);
});

test('a price holds for the next request and is kept with its row', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(2);
  await admin('PUT', `/models/${model.id}`, { prompt_micro_usd_per_mtok: 1000, completion_micro_usd_per_mtok: 2000 });
  // This isolate's service of the tests has its own cache, so the request goes over HTTP.
  const response = await call('POST', '/v1/completions', account.apiKey, { model: model.id, prompt: [1, 2, 3] });
  expect(response.status).toBe(200);
  const jobId = response.headers.get('x-request-id')!;
  expect((await rowOf(account, jobId)).usage.costPicoUsd).toBe(3 * 1000 + 2 * 2000);
});

test('a model that is removed is unknown until a worker brings it again', async () => {
  const account = await newAccount();
  const model = newModel();
  const first = await ScriptedWorker.connect(account.workerToken, model);
  first.close();
  await admin('DELETE', `/models/${encodeURIComponent(model.id)}`);
  expect((await call('GET', `/v1/models/${model.id}`, account.apiKey)).status).toBe(404);
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(1);
  expect((await readAll(await submit(account, jobRequest(model)))).at(-1)?.type).toBe('finished');
});

test.each([
  [404, 'GET', '/admin/accounts/nosuchaccoun', undefined],
  [404, 'GET', '/admin/accounts/short', undefined],
  [404, 'POST', '/admin/accounts/nosuchaccoun/credits', { credit_usd: '1' }],
  [404, 'POST', '/admin/accounts/nosuchaccoun/keys', {}],
  [404, 'DELETE', '/admin/models/nosuchmodel', undefined],
  [400, 'POST', '/admin/accounts', { name: '' }],
  [400, 'POST', '/admin/accounts', { name: 'x', credit_usd: '-1' }],
  [400, 'POST', '/admin/accounts', { name: 'x', credit_usd: '1e9' }],
  [400, 'POST', '/admin/accounts', { name: 'x', color: 'red' }],
  [400, 'PUT', '/admin/models/m', { prompt_micro_usd_per_mtok: 0.5, completion_micro_usd_per_mtok: 1 }],
])('%i for %s %s %j', async (status, method, path, body) => {
  const response = await call(method, path, ADMIN_KEY, body);
  expect(response.status).toBe(status);
  expect(await response.json()).toHaveProperty('error.type', 'invalid_request_error');
});
