/** Fairness: accounts share a model's workers, whoever has more jobs waiting; a full queue says when to come again. */
import { afterEach, expect, test, vi } from 'vitest';
import { call, idleModel, jobRequest, moneyOf, newAccount, newModel, readAll, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { pass } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('an account with many waiting jobs delays the first of another by one job', async () => {
  const [many, few] = [await newAccount(), await newAccount()];
  const model = newModel();
  const worker = await ScriptedWorker.connect(many.workerToken, model, { credits: 1 });
  const crowd = await Promise.all(Array.from({ length: 40 }, () => submit(many, jobRequest(model))));
  const running = await worker.next('lease');
  const newcomer = await submit(few, jobRequest(model));
  worker.start(running);
  worker.finish(running, 0);
  const next = await worker.next('lease');
  expect(next.job.id).toBe(newcomer.jobId);
  // Then they take turns, in the order in which each account's jobs came.
  const second = await submit(few, jobRequest(model));
  worker.start(next);
  worker.finish(next, 0);
  const order: string[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const lease = await worker.next('lease');
    order.push(lease.job.id);
    worker.start(lease);
    worker.finish(lease, 0);
  }
  expect(order).toEqual([crowd[1]!.jobId, second.jobId, crowd[2]!.jobId]);
  await Promise.all(crowd.map(({ events }) => events.cancel()));
});

test("a job that lost its worker keeps the head of its account's line, not of the others'", async () => {
  const [one, other] = [await newAccount(), await newAccount()];
  const model = newModel();
  const worker = await ScriptedWorker.connect(one.workerToken, model, { credits: 1 });
  const lost = await submit(one, jobRequest(model));
  const lease = await worker.next('lease');
  const later = await submit(one, jobRequest(model));
  const theirs = await submit(other, jobRequest(model));
  worker.start(lease);
  worker.close();
  const heir = await ScriptedWorker.connect(one.workerToken, model, { credits: 1 });
  const order: string[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const next = await heir.next('lease');
    order.push(next.job.id);
    heir.start(next);
    heir.finish(next, 0);
  }
  expect(order).toEqual([theirs.jobId, lost.jobId, later.jobId]);
  await Promise.all([lost, later, theirs].map(readAll));
});

test('a full queue is 429 with a time to come again', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const waiting = await Promise.all(Array.from({ length: 64 }, () => submit(account, jobRequest(model))));
  const body = { model: model.id, prompt: [1, 2, 3], max_tokens: 4 };
  const refused = await call('POST', '/v1/completions', account.apiKey, body);
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ error: { code: 'queue_full' } });
  await Promise.all(waiting.map(({ events }) => events.cancel()));
});

test('no worker in time is 503 with a time to come again', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const answer = call('POST', '/v1/completions', account.apiKey, { model: model.id, prompt: [1, 2, 3], max_tokens: 4 });
  await vi.waitFor(async () => expect((await moneyOf(account)).reserved).not.toBe('0'));
  // The job may still be on its way to the queue.
  await vi.waitFor(() =>
    pass(model, 60_001).then(() => expect(moneyOf(account)).resolves.toMatchObject({ reserved: '0' })),
  );
  const refused = await answer;
  expect(refused.status).toBe(503);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ error: { code: 'no_capacity' } });
});
