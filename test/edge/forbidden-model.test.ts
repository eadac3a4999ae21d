/** Forbidden model: a key that is bound to models is told 403 for another on every surface, and 404 for one that is not there. */
import { expect, test } from 'vitest';
import { admin, call, idleModel, newAccount } from './edge-under-test.ts';

const CHAT = { messages: [{ role: 'user', content: 'hello' }] };

test.each([
  ['/v1/chat/completions', CHAT],
  ['/v1/completions', { prompt: 'hello' }],
  ['/generate', { inputs: 'hello' }],
  ['/generate', { inputs: 'hello', parameters: { truncate: 5 } }],
  ['/generate_stream', { inputs: 'hello', parameters: { truncate: 5 } }],
  ['/', { inputs: 'hello', parameters: { truncate: 5 } }],
])('%s %j', async (path, body) => {
  const account = await newAccount();
  const [allowed, other] = [await idleModel(), await idleModel()];
  const keys = `/accounts/${account.id}/keys`;
  const { key } = await admin<{ key: string }>('POST', keys, { models: [allowed.id] });
  expect((await call('POST', path, key, { ...body, model: other.id })).status).toBe(403);
  expect((await call('POST', path, key, { ...body, model: 'org/none' })).status).toBe(404);
  const listed = (await (await call('GET', '/v1/models', key)).json()) as { data: { id: string }[] };
  expect(listed.data.map(({ id }) => id)).toEqual([allowed.id]);
});
