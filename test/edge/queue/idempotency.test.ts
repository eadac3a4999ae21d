/** Idempotency keys: one job, one answer, one row, however often a request is sent, by whom and when. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env, exports } from 'cloudflare:workers';
import { afterEach, expect, test, vi } from 'vitest';
import type { ModelCard } from '../../../core/protocol.ts';
import { randomBase62 } from '../../../edge/auth.ts';
import {
  ALL_ROWS,
  admin,
  idleModel,
  jobRequest,
  moneyOf,
  newAccount,
  newModel,
  queueOf,
  rowOf,
  service,
  type TestAccount,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { jump } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

async function linked() {
  const account = await newAccount();
  const model = newModel({ contextTokens: 5000 });
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  return { account, model, worker };
}

interface Sent {
  path?: string;
  body?: object;
  lastEventId?: string;
  apiKey?: string;
}

/** A completion of three ids, under a key. */
function send(account: TestAccount, model: ModelCard, key: string | null, sent: Sent = {}): Promise<Response> {
  const { path = '/v1/completions', body = {}, lastEventId, apiKey = account.apiKey } = sent;
  return exports.default.fetch(`http://edge${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${apiKey}`,
      'content-type': 'application/json',
      ...(key !== null && { 'idempotency-key': key }),
      ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
    },
    body: JSON.stringify({ model: model.id, prompt: [1, 2, 3], max_tokens: 10, ...body }),
  });
}

interface Answer {
  id: string;
  created: number;
  choices: { text: string }[];
  usage: object;
}

async function numRows(account: TestAccount): Promise<number> {
  const rows = await service.usage(account.caller, ALL_ROWS);
  if (!rows.ok) throw new Error(rows.failure.code);
  return rows.value.length;
}

/** The text of a completion's events, and the id of the last. */
async function textOf(response: Response): Promise<{ text: string; done: boolean }> {
  const whole = await response.text();
  const data = whole
    .split('\n')
    .filter((line) => line.startsWith('data: {'))
    .map((line) => JSON.parse(line.slice('data: '.length)) as Answer);
  return { text: data.map(({ choices }) => choices[0]?.text ?? '').join(''), done: whole.endsWith('data: [DONE]\n\n') };
}

test('an ended answer is replayed: same id, time, text, usage and row, and nothing is reserved', async () => {
  const { account, model, worker } = await linked();
  worker.serve(4);
  const first = await send(account, model, 'k');
  expect([first.status, first.headers.get('idempotent-replayed')]).toEqual([200, null]);
  const answer = await first.json<Answer>();
  const jobId = first.headers.get('x-request-id')!;
  await rowOf(account, jobId);
  jump(3_600_000);
  const again = await send(account, model, 'k');
  expect([again.status, again.headers.get('idempotent-replayed')]).toEqual([200, 'true']);
  expect(await again.json()).toEqual(answer);
  expect(again.headers.get('x-request-id')).toBe(jobId);
  expect(again.headers.get('x-nibble-cost-usd')).toBe(first.headers.get('x-nibble-cost-usd'));
  expect(await numRows(account)).toBe(1);
  expect(await moneyOf(account)).toEqual({ spent: '29', reserved: '0' });
});

test('a stream is replayed as a stream of the same events', async () => {
  const { account, model, worker } = await linked();
  worker.serve(3);
  const stream = { body: { stream: true, stream_options: { include_usage: true } } };
  const texts = [];
  for (let times = 0; times < 3; times++) texts.push(await (await send(account, model, 'k', stream)).text());
  expect(texts[0]).toContain('id: 3\ndata: ');
  expect(texts[1]).toBe(texts[0]);
  expect(texts[2]).toBe(texts[0]);
  expect(await numRows(account)).toBe(1);
});

test('another body, or the same one on another route, is a conflict in the words of its surface', async () => {
  const { account, model, worker } = await linked();
  worker.serve(2);
  await (await send(account, model, 'k')).text();
  const other = await send(account, model, 'k', { body: { max_tokens: 9 } });
  expect(other.status).toBe(409);
  expect(await other.json()).toMatchObject({ error: { code: 'idempotency_conflict', param: 'Idempotency-Key' } });
  const tgi = await send(account, model, 'k', { path: '/generate', body: { inputs: 'x' } });
  expect(tgi.status).toBe(409);
  expect(await tgi.json()).toMatchObject({ error_type: 'idempotency_conflict' });
  expect(await numRows(account)).toBe(1);
});

test('the order of a body’s fields makes no other request', async () => {
  const { account, model, worker } = await linked();
  worker.serve(2);
  const bodies = [
    `{"model":"${model.id}","prompt":[1,2,3],"max_tokens":5}`,
    `{ "max_tokens": 5, "prompt": [1, 2, 3], "model": "${model.id}" }`,
  ];
  const ids = [];
  for (const body of bodies) {
    const headers = { authorization: `Bearer ${account.apiKey}`, 'idempotency-key': 'k' };
    const response = await exports.default.fetch('http://edge/v1/completions', { method: 'POST', headers, body });
    ids.push((await response.json<Answer>()).id);
  }
  expect(ids[0]).toBe(ids[1]);
});

test('of many requests at once one is run, and every client gets the whole answer', async () => {
  const { account, model, worker } = await linked();
  const stream = { body: { stream: true } };
  const responses = Promise.all(Array.from({ length: 12 }, () => send(account, model, 'k', stream)));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 3);
  const texts = (await responses).map(textOf);
  worker.tokens(lease, 3, 2);
  worker.finish(lease, 5);
  for (const text of texts) expect(await text).toEqual({ text: ' 0 1 2 3 4', done: true });
  const replayed = (await responses).map((response) => response.headers.get('idempotent-replayed'));
  expect(replayed.filter((header) => header === null)).toHaveLength(1);
  await rowOf(account, lease.job.id);
  expect(await numRows(account)).toBe(1);
  expect(await moneyOf(account)).toEqual({ spent: '34', reserved: '0' });
});

test('a job has 64 readers at most: the next one is told to come back, and may when one has left', async () => {
  const { account, model, worker } = await linked();
  const stream = { body: { stream: true } };
  const first = send(account, model, 'k', stream);
  worker.start(await worker.next('lease'));
  const responses = [await first];
  while (responses.length < 64) responses.push(await send(account, model, 'k', stream));
  const refused = await send(account, model, 'k', stream);
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '2']);
  await responses[3]!.body!.cancel();
  await vi.waitFor(async () => expect((await send(account, model, 'k', stream)).status).toBe(200));
});

test('a second request in flight streams from the beginning, and either may leave', async () => {
  const { account, model, worker } = await linked();
  const stream = { body: { stream: true } };
  const first = send(account, model, 'k', stream);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  const left = (await first).body!.getReader();
  await left.read();
  const second = await send(account, model, 'k', stream);
  await left.cancel();
  worker.tokens(lease, 2, 2);
  worker.finish(lease, 4);
  expect(await textOf(second)).toEqual({ text: ' 0 1 2 3', done: true });
});

test('a client that leaves with a key has its job run to its end, billed, and finds the answer when it comes back', async () => {
  const { account, model, worker } = await linked();
  const first = send(account, model, 'k', { body: { stream: true } });
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  const reader = (await first).body!.getReader();
  await reader.read();
  await reader.cancel();
  // The worker gets another job without having been told to stop this one.
  const other = send(account, model, null, { body: { stream: true } });
  const next = await worker.next('lease');
  worker.start(next);
  worker.tokens(lease, 2, 3);
  worker.finish(lease, 5);
  const row = await rowOf(account, lease.job.id);
  expect(row).toMatchObject({ status: 'completed', usage: { promptTokens: 3, completionTokens: 5 } });
  const again = await send(account, model, 'k', { body: { stream: true } });
  expect(await textOf(again)).toEqual({ text: ' 0 1 2 3 4', done: true });
  await (await other).body!.cancel();
  expect(await worker.next('cancel')).toMatchObject({ jobId: next.job.id });
});

test('a job with a key waits for a worker without its client', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const client = new AbortController();
  const options = { user: null, idempotency: { key: 'k', bodyHash: 'h', ifNew: 'run' } as const };
  const submitted = await service.submit(account.caller, jobRequest(model), client.signal, options);
  if (!submitted.ok) throw new Error(submitted.failure.code);
  client.abort();
  jump(20_000);
  await runDurableObjectAlarm(queueOf(model));
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(3);
  expect(await rowOf(account, submitted.value.jobId)).toMatchObject({ status: 'completed' });
});

test('Last-Event-ID gives the rest of an answer, in flight and ended, and begins none', async () => {
  const { account, model, worker } = await linked();
  const body = { stream: true };
  const refused = await send(account, model, 'k', { body, lastEventId: '2' });
  expect(refused.status).toBe(410);
  expect(await refused.json()).toMatchObject({ error: { code: 'answer_gone' } });
  const first = send(account, model, 'k', { body });
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 4);
  await (await first).body!.cancel();
  const inFlight = await send(account, model, 'k', { body, lastEventId: '2' });
  worker.tokens(lease, 4, 2);
  worker.finish(lease, 6);
  expect(await textOf(inFlight)).toEqual({ text: ' 2 3 4 5', done: true });
  for (let from = 0; from <= 6; from++) {
    const rest = await send(account, model, 'k', { body, lastEventId: String(from) });
    expect(await textOf(rest)).toEqual({ text: ' 0 1 2 3 4 5'.slice(2 * from), done: true });
  }
  expect(await numRows(account)).toBe(1);
});

test('a refusal is not remembered: the same key works once there is budget, and room in the queue', async () => {
  const account = await newAccount({ credit_usd: '0' });
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits: 0 });
  expect((await send(account, model, 'k')).status).toBe(402);
  await admin('POST', `/accounts/${account.id}/credits`, { credit_usd: '1' });
  const waiting = Array.from({ length: 64 }, () => send(account, model, null, { body: { stream: true } }));
  while ((await moneyOf(account)).reserved !== String(64 * 59)) await new Promise((resolve) => setTimeout(resolve, 10));
  const full = await send(account, model, 'k');
  expect(full.status).toBe(429);
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: String(64 * 59) });
  worker.serve(2);
  worker.hello(model, 70);
  for (const response of await Promise.all(waiting)) await response.text();
  const served = await send(account, model, 'k');
  expect([served.status, served.headers.get('idempotent-replayed')]).toEqual([200, null]);
});

test('what failed before it cost anything may be tried again under its key; what was billed may not', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const first = send(account, model, 'k');
  while ((await moneyOf(account)).reserved !== '59') await new Promise((resolve) => setTimeout(resolve, 10));
  jump(60_001);
  await runDurableObjectAlarm(queueOf(model));
  expect((await first).status).toBe(503);
  await rowOf(account, (await first).headers.get('x-request-id')!);
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const again = send(account, model, 'k');
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  const failure = { code: 'generation_failed', reason: 'x' } as const;
  worker.frames({ jobId: lease.job.id, epoch: lease.epoch, kind: 'failed', failure });
  expect((await again).status).toBe(500);
  await rowOf(account, lease.job.id);
  const third = await send(account, model, 'k');
  expect([third.status, third.headers.get('x-request-id')]).toEqual([500, lease.job.id]);
  expect(await moneyOf(account)).toEqual({ spent: '19', reserved: '0' });
});

test('a key is remembered for a day, and so is its answer', async () => {
  const { account, model, worker } = await linked();
  worker.serve(3);
  const jobId = (await send(account, model, 'k')).headers.get('x-request-id')!;
  await rowOf(account, jobId);
  jump(86_390_000);
  await runDurableObjectAlarm(queueOf(model));
  const late = await send(account, model, 'k');
  expect([late.status, late.headers.get('x-request-id')]).toEqual([200, jobId]);
  jump(700_000);
  await runDurableObjectAlarm(queueOf(model));
  expect(await queueOf(model).known([jobId])).toEqual([]);
  (await ScriptedWorker.connect(account.workerToken, model)).serve(3);
  const later = await send(account, model, 'k');
  expect([later.status, later.headers.get('idempotent-replayed')]).toEqual([200, null]);
  expect(later.headers.get('x-request-id')).not.toBe(jobId);
});

test('keys past their day leave the account’s storage', async () => {
  const { account, model, worker } = await linked();
  worker.serve(1);
  const object = env.ACCOUNT.getByName(account.id);
  const count = () =>
    runInDurableObject(object, (_, { storage }) => storage.sql.exec('SELECT COUNT(*) AS n FROM idempotency').one().n);
  for (const key of ['a', 'b', 'c']) await (await send(account, model, key)).text();
  expect(await count()).toBe(3);
  jump(80_000_000);
  (await ScriptedWorker.connect(account.workerToken, model)).serve(1);
  await (await send(account, model, 'd')).text();
  jump(10_000_000);
  await runDurableObjectAlarm(object);
  expect(await count()).toBe(1);
  const wakeMs = await runInDurableObject(object, (_, { storage }) => storage.getAlarm());
  expect(wakeMs).toBeGreaterThan(Date.now());
});

test('an answer that is gone while its key is known is said to be gone, not run again', async () => {
  const { account, model, worker } = await linked();
  worker.serve(3);
  const jobId = (await send(account, model, 'k')).headers.get('x-request-id')!;
  await rowOf(account, jobId);
  await runInDurableObject(queueOf(model), (_, { storage }) => {
    storage.sql.exec('DELETE FROM job WHERE id = ?', jobId);
  });
  const gone = await send(account, model, 'k');
  expect(gone.status).toBe(410);
  expect(await gone.json()).toMatchObject({
    error: { code: 'answer_gone', message: expect.stringContaining('was run and booked') },
  });
  expect(await numRows(account)).toBe(1);
});

test('a key whose first request has not reached the queue is pending, and free when the ledger gives it up', async () => {
  const { account, model, worker } = await linked();
  worker.serve(2);
  const { accountId: _, ...presented } = account.caller;
  // As an edge that died between the ledger and the queue leaves it; the hash is the one that the second request sends.
  const hash = await hashOf(account, model);
  const outcome = await env.ACCOUNT.getByName(account.id).admit({
    ...presented,
    jobId: randomBase62(22),
    user: null,
    idempotency: { key: 'k', bodyHash: hash, ifNew: 'run' },
    model: model.id,
    queue: `${model.id}#0`,
    tariff: { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 },
    promptTokens: 3,
    completionTokens: 10,
  });
  expect(outcome.ok).toBe(true);
  const pending = await send(account, model, 'k');
  expect([pending.status, pending.headers.get('retry-after')]).toEqual([409, '5']);
  expect(await pending.json()).toMatchObject({ error: { code: 'idempotency_pending' } });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '59' });
  jump(36_000);
  await runDurableObjectAlarm(env.ACCOUNT.getByName(account.id));
  expect((await send(account, model, 'k')).status).toBe(200);
});

test('a key belongs to the API key that sent it, and to those that it is rotated to', async () => {
  const { account, model, worker } = await linked();
  worker.serve(2);
  const { id } = await (await send(account, model, 'k')).json<Answer>();
  const other = await admin<{ key: string }>('POST', `/accounts/${account.id}/keys`, { scopes: ['client'] });
  const theirs = await send(account, model, 'k', { apiKey: other.key });
  expect((await theirs.json<Answer>()).id).not.toBe(id);
  const path = `/accounts/${account.id}/keys/${account.caller.keyId}/rotate`;
  const rotated = await admin<{ key: string }>('POST', path, {});
  expect((await (await send(account, model, 'k', { apiKey: rotated.key })).json<Answer>()).id).toBe(id);
  const stranger = await newAccount();
  expect((await (await send(stranger, model, 'k')).json<Answer>()).id).not.toBe(id);
});

/** The hash under which the account remembers this request. */
async function hashOf(account: TestAccount, model: ModelCard): Promise<string> {
  await (await send(account, model, 'probe')).text();
  return runInDurableObject(env.ACCOUNT.getByName(account.id), (_, { storage }) => {
    const hash = storage.sql.exec("SELECT body_hash FROM idempotency WHERE key = 'probe'").one().body_hash as string;
    storage.sql.exec("UPDATE account SET spent = '0'");
    return hash;
  });
}
