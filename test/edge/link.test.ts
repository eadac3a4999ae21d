/** Link: who may dial in, and who is sent away. */
import { exports } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import { admin, call, newAccount, newModel } from './edge-under-test.ts';
import { ScriptedWorker } from './scripted-worker.ts';

function dial(query: string, headers: Record<string, string>): Promise<Response> {
  return exports.default.fetch(`http://edge/link${query}`, { headers: { upgrade: 'websocket', ...headers } });
}

test('the link is refused before the upgrade, by status', async () => {
  const account = await newAccount();
  const worker = { authorization: `Bearer ${account.workerToken}` };
  const narrow = await admin<{ key: string }>('POST', `/accounts/${account.id}/keys`, {
    scopes: ['worker'],
    models: ['other'],
  });
  const cases: [number, string, Record<string, string>][] = [
    [401, '?model=m', {}],
    [401, '?model=m', { authorization: 'Bearer nbl_forged' }],
    [403, '?model=m', { authorization: `Bearer ${account.apiKey}` }],
    [403, '?model=m', { authorization: `Bearer ${narrow.key}` }],
    [404, '?model=m&shard=1', worker],
    [400, '', worker],
    [400, '?model=m', { ...worker, upgrade: 'h2c' }],
    [403, '?model=m', { authorization: `Bearer ${account.apiKey}`, upgrade: '' }],
  ];
  for (const [status, query, headers] of cases) {
    const response = await dial(query, headers);
    expect(response.status, `${query} ${JSON.stringify(headers)}`).toBe(status);
    expect(await response.json()).toHaveProperty('error.message');
  }
});

test('another method than GET is 405 in the API’s own shape', async () => {
  const response = await call('POST', '/link?model=m', 'none', {});
  expect(response.status).toBe(405);
  expect(response.headers.get('allow')).toBe('GET');
  expect(await response.json()).toMatchObject({ error: { code: 'method_not_allowed' } });
});

test('the token may come as a subprotocol', async () => {
  const account = await newAccount();
  const subprotocol = `nibble.${account.workerToken}`;
  const response = await dial('?model=m', { 'sec-websocket-protocol': subprotocol });
  expect(response.status).toBe(101);
  expect(response.headers.get('sec-websocket-protocol')).toBe(subprotocol);
  response.webSocket?.accept();
  response.webSocket?.close();
});

test('after the welcome the model is listed', async () => {
  const account = await newAccount();
  const model = newModel();
  await ScriptedWorker.connect(account.workerToken, model);
  const response = await call('GET', `/v1/models/${model.id}`, account.apiKey);
  expect(await response.json()).toMatchObject({ id: model.id, context_length: model.contextTokens });
});

test.each([
  ['another protocol', (worker: ScriptedWorker) => worker.hello(newModel(), 1, { protocol: 99 }), 'protocol'],
  ['another model', (worker: ScriptedWorker) => worker.hello(newModel(), 1), 'model'],
  ['nonsense', (worker: ScriptedWorker) => worker.send({ type: 'nonsense' } as never), 'type'],
])('a worker that speaks %s is refused by name', async (_, speak, param) => {
  const account = await newAccount();
  const worker = await ScriptedWorker.dial(account.workerToken, newModel());
  speak(worker);
  expect(await worker.next('refused')).toMatchObject({ failure: { code: 'invalid_request', param } });
  await worker.untilClosed();
});

test('a heartbeat is answered', async () => {
  const account = await newAccount();
  const response = await dial('?model=heartbeat', { authorization: `Bearer ${account.workerToken}` });
  const socket = response.webSocket!;
  socket.accept();
  const answer = new Promise((resolve) => socket.addEventListener('message', ({ data }) => resolve(data)));
  socket.send('ping');
  expect(await answer).toBe('pong');
  socket.close();
});
