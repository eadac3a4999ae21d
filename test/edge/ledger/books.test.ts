/** Books: what the queue, the ledger and the copy say of the same jobs, through the routes that a reconciliation reads. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test, vi } from 'vitest';
import { randomBase62 } from '../../../edge/auth.ts';
import {
  admin,
  call,
  idleModel,
  jobRequest,
  newAccount,
  newModel,
  queueOf,
  readAll,
  rowOf,
  submit,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

interface Book {
  data: Record<string, unknown>[];
  has_more: boolean;
  reservations: Record<string, unknown>[];
}
const jobsOf = (model: string, more = '') => admin<Book>('GET', `/jobs?model=${encodeURIComponent(model)}${more}`);

test('three books agree on two jobs, one of them open, and none tells a prompt or a text', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const secret = { kind: 'text', text: 'a prompt to keep', specialTokens: 'add' } as const;
  const ended = await submit(account, jobRequest(model, { input: secret }));
  const reading = readAll(ended);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 4);
  worker.finish(lease, 4);
  await reading;
  await rowOf(account, ended.jobId);
  const left = new AbortController();
  const open = await submit(account, jobRequest(model, { input: secret }), left.signal);
  await worker.next('lease');

  const queue = await jobsOf(model.id);
  const billed = { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 4 };
  expect(queue.data).toMatchObject([
    { id: ended.jobId, account_id: account.id, status: 'completed', leases: 1, accepted_tokens: 4, billed },
    { id: open.jobId, account_id: account.id, status: 'leased', leases: 1, billed: null, settled: false, ended: null },
  ]);
  expect(await jobsOf(model.id, '&limit=1')).toMatchObject({ data: [{ id: ended.jobId }], has_more: true });
  expect((await jobsOf(model.id, `&after=${queue.data[0]!.seq}`)).data).toMatchObject([{ id: open.jobId }]);

  const ledger = await admin<Book>('GET', `/accounts/${account.id}/ledger`);
  expect(ledger.data).toMatchObject([
    { seq: 1, request_id: ended.jobId, status: 'completed', completion_tokens: 4, cost_pico_usd: '29' },
  ]);
  expect(ledger.reservations).toMatchObject([{ request_id: open.jobId, queue: `${model.id}#0` }]);

  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 });
  await runDurableObjectAlarm(env.ACCOUNT.getByName(account.id));
  vi.useRealTimers();
  const copy = await vi.waitFor(
    async () => {
      const book = await admin<Book>('GET', `/accounts/${account.id}/export`);
      expect(book.data).toHaveLength(1);
      return book;
    },
    { timeout: 20_000, interval: 200 },
  );
  expect(copy.data).toEqual(ledger.data);
  const all = JSON.stringify([queue, ledger, copy]);
  expect(all).not.toContain('a prompt');
  expect(all).not.toContain('" 1"');
  left.abort();
  worker.close();
});

test('a position that two chunks cover counts once, and one that none covers not at all', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const left = new AbortController();
  const { jobId } = await submit(account, jobRequest(model), left.signal);
  await runInDurableObject(queueOf(model), (_, { storage }) => {
    for (const [first, count] of [
      [0, 3],
      [2, 4],
      [8, 2],
    ])
      storage.sql.exec("INSERT INTO chunk VALUES (?, ?, ?, '[]')", jobId, first, count);
  });
  expect((await jobsOf(model.id)).data).toMatchObject([{ id: jobId, status: 'waiting', accepted_tokens: 8 }]);
  left.abort();
});

test('a released reservation is a row of the ledger like any other', async () => {
  const account = await newAccount();
  const model = newModel();
  await ScriptedWorker.connect(account.workerToken, model);
  const key = { keyId: account.caller.keyId, secretHash: account.caller.secretHash, clientIp: null };
  const tariff = { promptMicroUsdPerMtok: 3, completionMicroUsdPerMtok: 5 };
  const stub = env.ACCOUNT.getByName(account.id);
  const jobId = randomBase62(22);
  const about = { jobId, model: model.id, queue: `${model.id}#0`, tariff, user: null, idempotency: null };
  const granted = await stub.admit({ ...key, ...about, promptTokens: 1, completionTokens: 1 });
  if (!granted.ok) throw new Error('refused');
  await stub.release(granted.value.jobId);
  const ledger = await admin<Book>('GET', `/accounts/${account.id}/ledger`);
  expect(ledger.reservations).toEqual([]);
  expect(ledger.data).toMatchObject([
    { request_id: granted.value.jobId, status: 'released', completion_tokens: 0, cost_pico_usd: '0' },
  ]);
  expect((await call('GET', '/admin/accounts/nosuchaccoun/ledger', env.ADMIN_KEY!)).status).toBe(404);
});
