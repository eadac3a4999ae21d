/** Matrix: every route under every kind of credential. A route that is added without a row here fails the first test. */
import { env, exports } from 'cloudflare:workers';
import { beforeAll, expect, test } from 'vitest';
import { adminRoutes } from '../../../edge/api/admin.ts';
import { createApi } from '../../../edge/api/app.ts';
import { call, idleModel } from '../edge-under-test.ts';
import { CREDENTIALS, type Credential, credentials } from './credentials.ts';

type Level = 'open' | 'any key' | 'client' | 'client or admin' | 'worker' | 'own admin' | 'root';

/** Which credentials each level lets through; a key of no use is 401, a good one for something else 403. */
const LET_THROUGH: Record<Level, readonly Credential[]> = {
  open: CREDENTIALS,
  'any key': ['client', 'admin', 'worker', 'other admin'],
  client: ['client'],
  'client or admin': ['client', 'admin', 'other admin'],
  worker: ['worker'],
  'own admin': ['admin', 'root'],
  root: ['root'],
};
/** Good keys, for something else. */
const KNOWN: readonly Credential[] = ['client', 'admin', 'worker', 'elsewhere', 'other admin'];

const account = '/admin/accounts/{id}';
const ROUTES: readonly [level: Level, route: string, body?: object][] = [
  ['open', 'GET /health'],
  ['open', 'GET /'],
  ['open', 'GET /docs'],
  ['open', 'GET /openapi.json'],
  ['client', 'POST /v1/chat/completions', { model: '{model}', messages: [{ role: 'user', content: 'x' }] }],
  // More tokens than the model's context: let through, and then refused without waiting for a worker.
  ['client', 'POST /v1/completions', { model: '{model}', prompt: Array(1001).fill(1) }],
  ['client', 'POST /generate', { inputs: 'x', model: 'no such model' }],
  ['client', 'POST /generate_stream', { inputs: 'x', model: 'no such model' }],
  ['client', 'POST /', { inputs: 'x', model: 'no such model' }],
  ['any key', 'GET /v1/models'],
  ['any key', 'GET /v1/models/{model}'],
  ['client or admin', 'GET /v1/usage'],
  ['client or admin', 'GET /v1/usage.csv'],
  ['client or admin', 'GET /v1/account'],
  ['client or admin', 'GET /v1/organization/usage/completions'],
  ['client or admin', 'GET /v1/organization/costs'],
  ['worker', 'GET /link?model=m'],
  ['root', 'POST /admin/accounts', { name: 'x', credit_usd: -1 }],
  ['root', 'GET /admin/accounts'],
  ['own admin', `GET ${account}`],
  ['root', `PATCH ${account}`, {}],
  ['own admin', `GET ${account}/credits`],
  ['root', `POST ${account}/credits`, { credit_usd: 'x' }],
  ['own admin', `GET ${account}/audit`],
  ['own admin', `GET ${account}/usage`],
  ['root', `POST ${account}/export`, { after: -1 }],
  ['own admin', `GET ${account}/usage.csv`],
  ['own admin', `GET ${account}/keys`],
  ['own admin', `POST ${account}/keys`, { scopes: [] }],
  ['own admin', `PATCH ${account}/keys/{keyId}`, {}],
  ['own admin', `POST ${account}/keys/{keyId}/rotate`, { overlap_s: -1 }],
  ['own admin', `DELETE ${account}/keys/nosuchke`],
  ['own admin', `GET ${account}/webhooks`],
  ['own admin', `POST ${account}/webhooks`, {}],
  ['own admin', `DELETE ${account}/webhooks/none`],
  ['own admin', `GET ${account}/webhooks/none/deliveries`],
  ['root', 'GET /admin/usage'],
  ['root', 'GET /metrics'],
  ['root', 'GET /admin/jobs?model=m'],
  ['root', `GET ${account}/ledger`],
  ['root', `GET ${account}/export`],
  ['root', 'GET /admin/prices?model=m'],
  ['root', 'POST /admin/prices', {}],
  ['root', 'PUT /admin/models/m', {}],
  ['root', 'DELETE /admin/models/nosuchmodel'],
];

let made: Awaited<ReturnType<typeof credentials>>;
let model: string;
beforeAll(async () => {
  made = await credentials();
  model = (await idleModel()).id;
});

test('every route has its row', () => {
  const app = createApi(() => Promise.reject(new Error('not called')) as never);
  app.route(
    '/',
    adminRoutes(() => Promise.reject(new Error('not called')) as never),
  );
  const pattern = (path: string) => path.replace(/:(\w+)(\{[^}]*\})?/g, '*').replace(/\/\*$/, '/*');
  const there = app.routes
    .filter(({ method, path }) => method !== 'ALL' && !path.endsWith('/*') && path !== '*')
    .map(({ method, path }) => `${method} ${pattern(path)}`);
  const rows = ROUTES.map(([, route]) =>
    route
      .replace(/\?.*/, '')
      .replace('{id}', '*')
      .replace('{model}', '*')
      .replace(/\/keys\/(\{keyId\}|nosuchke)/, '/keys/*')
      .replace('/webhooks/none', '/webhooks/*')
      .replace(/\/admin\/models\/\w+/, '/admin/models/*'),
  );
  expect(new Set(there).size).toBeGreaterThan(30);
  expect([...new Set(there)].filter((route) => !rows.includes(route))).toEqual([]);
});

test.each(ROUTES)('%s: %s', async (level, route, body) => {
  const [method, path] = route
    .replace('{id}', made.id)
    .replace('{keyId}', made.keyId)
    .replace('{model}', encodeURIComponent(model))
    .split(' ') as [string, string];
  const json = body === undefined ? undefined : JSON.parse(JSON.stringify(body).replace('{model}', model));
  for (const credential of CREDENTIALS) {
    const key = made.of[credential];
    const response = await exports.default.fetch(`http://edge${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(key !== null && { authorization: `Bearer ${key}` }),
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
    const { status } = response;
    await response.body?.cancel();
    const where = `${route} as ${credential}: ${status}`;
    if (LET_THROUGH[level].includes(credential)) expect([401, 403].includes(status), where).toBe(false);
    else expect(status, where).toBe(KNOWN.includes(credential) ? 403 : 401);
  }
});

test('what another account’s administrator is told does not depend on whether there is such an account', async () => {
  const key = made.of['other admin']!;
  for (const path of ['', '/keys', '/usage', '/audit', '/webhooks']) {
    const answers = [];
    for (const id of [made.id, 'nosuchaccoun']) {
      const response = await call('GET', `/admin/accounts/${id}${path}`, key);
      answers.push([response.status, await response.text()]);
    }
    expect(answers[0]).toEqual(answers[1]);
    expect(answers[0]![0]).toBe(403);
  }
});

test('no account makes its own workers: they would see every account’s prompts', async () => {
  const key = made.of.admin!;
  const keys = `/admin/accounts/${made.id}/keys`;
  const workers = await (await call('GET', keys, key)).json<{ data: { id: string; scopes: string[] }[] }>();
  const worker = workers.data.find(({ scopes }) => scopes.includes('worker'))!.id;
  expect((await call('POST', keys, key, { scopes: ['worker'] })).status).toBe(403);
  expect((await call('PATCH', `${keys}/${made.keyId}`, key, { scopes: ['client', 'worker'] })).status).toBe(403);
  expect((await call('POST', `${keys}/${worker}/rotate`, key, {})).status).toBe(403);
  expect((await call('PATCH', `${keys}/${worker}`, key, { models: null })).status).toBe(403);
  expect((await call('POST', keys, key, { scopes: ['client'] })).status).toBe(201);
});

test('a key that is bound to addresses is used from them alone', async () => {
  const key = made.of.elsewhere!;
  const from = (ip: string | null) =>
    exports.default.fetch('http://edge/v1/models', {
      headers: { authorization: `Bearer ${key}`, ...(ip !== null && { 'cf-connecting-ip': ip }) },
    });
  expect((await from('192.0.2.77')).status).toBe(200);
  for (const ip of ['192.0.3.1', '2001:db8::1', 'nonsense', null]) expect((await from(ip)).status).toBe(403);
});

test('a key that is bound to models sees no other', async () => {
  const response = await call('POST', `/admin/accounts/${made.id}/keys`, made.of.root!, { models: ['elsewhere'] });
  const { key } = await response.json<{ key: string }>();
  expect(await (await call('GET', '/v1/models', key)).json()).toEqual({ object: 'list', data: [] });
  const refused = await call('POST', '/v1/completions', key, { model, prompt: 'a'.repeat(100_000), max_tokens: 1 });
  expect(refused.status).toBe(403);
});

test('an answer to a body that cannot be read is for good keys alone', async () => {
  const send = (key: string) =>
    exports.default.fetch('http://edge/v1/completions', {
      method: 'POST',
      body: '{',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    });
  expect((await send(made.of.revoked!)).status).toBe(401);
  const read = await send(made.of.client!);
  expect(read.status).toBe(400);
  expect(read.headers.get('x-ratelimit-limit-tokens')).toBe('100000000');
  expect(env.ADMIN_KEY).toBe(made.of.root);
});
