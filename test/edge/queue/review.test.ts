/** Review: a worker's key that is revoked closes the sockets that it opened, and a worker whose key is good never waits for it. */
import { runInDurableObject } from 'cloudflare:test';
import { afterEach, expect, test, vi } from 'vitest';
import { admin, jobRequest, newAccount, newModel, queueOf, readAll, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { jump, pass } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

async function newWorkerKey(accountId: string) {
  const { id, key } = await admin<{ id: string; key: string }>('POST', `/accounts/${accountId}/keys`, {
    scopes: ['worker'],
  });
  return { token: key, revoke: () => admin('DELETE', `/accounts/${accountId}/keys/${id}`) };
}

test('the lease of a worker whose key is revoked goes on at another within half a minute', async () => {
  const account = await newAccount();
  const model = newModel();
  const { token, revoke } = await newWorkerKey(account.id);
  const worker = await ScriptedWorker.connect(token, model);
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  const other = await ScriptedWorker.connect(account.workerToken, model);
  await revoke();
  await pass(model, 30_000);
  expect(await worker.next('refused')).toMatchObject({ failure: { code: 'invalid_key' } });
  await worker.untilClosed();
  const again = await other.next('lease');
  expect(again).toMatchObject({ emittedIds: [0, 1] });
  other.finish(again, 2);
  expect((await readAll(submission)).at(-1)?.type).toBe('finished');
});

/** Over a minute without a job and without silence. */
async function idle(worker: ScriptedWorker): Promise<void> {
  jump(40_000);
  worker.frames({ jobId: 'none', epoch: 1, kind: 'started', promptTokens: 1, cachedTokens: 0 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  jump(40_000);
}

test('a worker whose key was revoked while nothing ran gets no job', async () => {
  const account = await newAccount();
  const model = newModel();
  const { token, revoke } = await newWorkerKey(account.id);
  const worker = await ScriptedWorker.connect(token, model);
  await revoke();
  await idle(worker);
  const submission = await submit(account, jobRequest(model));
  expect(await worker.next('refused')).toMatchObject({ failure: { code: 'invalid_key' } });
  await expect(worker.next('lease')).rejects.toThrow('closed before');
  await submission.events.cancel();
});

test('a worker that was idle for long gets its lease as soon as its key is found good', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(2);
  await idle(worker);
  expect((await readAll(await submit(account, jobRequest(model)))).at(-1)?.type).toBe('finished');
});

test('an object that has nothing but sockets wakes every five minutes to look at their keys', async () => {
  const account = await newAccount();
  const model = newModel();
  const { token, revoke } = await newWorkerKey(account.id);
  const [bad, good] = [
    await ScriptedWorker.connect(token, model),
    await ScriptedWorker.connect(account.workerToken, model),
  ];
  await revoke();
  const alarmMs = await runInDurableObject(queueOf(model), (_, state) => state.storage.getAlarm());
  expect(alarmMs! - Date.now()).toBeLessThanOrEqual(300_000);
  await pass(model, 40_000);
  expect(await bad.next('refused')).toMatchObject({ failure: { code: 'invalid_key' } });
  await bad.untilClosed();
  expect(good.closed).toBe(false);
});
