/** Time: waits that end, sockets that fall silent, instances that die. The clock is moved, nobody sleeps. */
import { evictDurableObject, runDurableObjectAlarm } from 'cloudflare:test';
import { afterEach, expect, test, vi } from 'vitest';
import {
  idleModel,
  jobRequest,
  moneyOf,
  newAccount,
  newModel,
  queueOf,
  readAll,
  rowOf,
  service,
  submit,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { crash, jump, untilNoLease } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('a job that no worker takes in time fails with no_capacity, free', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  jump(60_001);
  await runDurableObjectAlarm(queueOf(model));
  expect((await events).at(-1)).toMatchObject({ failure: { code: 'no_capacity' }, usage: { costPicoUsd: 0 } });
  expect(await rowOf(account, submission.jobId)).toMatchObject({ status: 'failed', usage: { costPicoUsd: 0 } });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '0' });
});

test('a full queue refuses and gives the reservation back', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const waiting = await Promise.all(Array.from({ length: 64 }, () => submit(account, jobRequest(model))));
  const refused = await service.submit(account.caller, jobRequest(model), new AbortController().signal);
  expect(refused).toMatchObject({ ok: false, failure: { code: 'queue_full', depth: 64 } });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: String(64 * 59) });
  await Promise.all(waiting.map(({ events }) => events.cancel()));
});

test('while nothing flows a stream says that it is waiting', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const submission = await submit(account, jobRequest(model));
  const reader = submission.events.getReader();
  jump(3_000);
  expect((await reader.read()).value).toEqual({ type: 'waiting' });
  await reader.cancel();
});

test('tokens are stored and acknowledged after two seconds even when they are few', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  const reader = submission.events.getReader();
  while ((await reader.read()).value?.type !== 'tokens');
  jump(2_000);
  expect(await worker.next('ack')).toMatchObject({ tokens: 2 });
  await reader.cancel();
});

test('a socket that is silent for 45 s is closed, and its job goes on at another worker', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 1);
  const reader = submission.events.getReader();
  while ((await reader.read()).value?.type !== 'tokens');
  jump(46_000);
  await runDurableObjectAlarm(queueOf(model));
  await worker.untilClosed();
  const other = await ScriptedWorker.connect(account.workerToken, model);
  expect(await other.next('lease')).toMatchObject({ epoch: 2, emittedIds: [0] });
  await reader.cancel();
});

test('a lease that brings no frame for ten minutes expires, though its worker goes on with another job', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const stuck = await submit(account, jobRequest(model, { maxNewTokens: 40 }));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 1);
  const events = readAll(stuck);
  const alive = await submit(account, jobRequest(model, { maxNewTokens: 40 }));
  const other = await worker.next('lease');
  worker.start(other);
  const others = readAll(alive);
  for (let token = 0; token < 31; token++) {
    worker.tokens(other, token, 1);
    jump(20_000);
    await runDurableObjectAlarm(queueOf(model));
  }
  expect(await worker.next('cancel')).toEqual({ type: 'cancel', jobId: stuck.jobId, epoch: 1 });
  const again = await worker.next('lease');
  expect(again).toMatchObject({ job: { id: stuck.jobId }, epoch: 2, emittedIds: [0] });
  worker.finish(again, 1);
  expect((await events).at(-1)).toMatchObject({ type: 'finished', usage: { completionTokens: 1 } });
  worker.finish(other, 31);
  expect((await others).at(-1)).toMatchObject({ type: 'finished' });
});

test('an idle object that is evicted keeps its workers', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(2);
  await evictDurableObject(queueOf(model));
  expect((await readAll(await submit(account, jobRequest(model)))).at(-1)?.type).toBe('finished');
});

test('a waiting job outlives a crash: its reader comes back and sees one whole answer', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  await crash(model);
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(3);
  expect((await events).map((event) => event.type)).toEqual(['started', 'tokens', 'finished']);
});

test('a long answer whose worker is lost has the whole time to wait for another, and is billed when none comes', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  jump(40_000);
  await runDurableObjectAlarm(queueOf(model));
  worker.close();
  await untilNoLease(model);
  jump(59_000);
  await runDurableObjectAlarm(queueOf(model));
  jump(61_000);
  await runDurableObjectAlarm(queueOf(model));
  expect((await events).at(-1)).toMatchObject({
    failure: { code: 'no_capacity' },
    usage: { promptTokens: 3, completionTokens: 2, costPicoUsd: 19 },
  });
});

test('an answer that is cut by a crash goes on from the tokens in storage; its reader gets no token twice', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model, { maxNewTokens: 100 }));
  const reader = submission.events.getReader();
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 64);
  await worker.next('ack');
  worker.tokens(lease, 64, 3);
  const seen: number[] = [];
  const readTo = async (count: number) => {
    while (seen.length < count) {
      const { value } = await reader.read();
      if (value?.type === 'tokens') seen.push(...value.tokens.map(({ id }) => id));
      else if (value?.type === 'failed') throw new Error(JSON.stringify(value));
    }
  };
  await readTo(67);
  await crash(model);
  const rest = readTo(70);
  const other = await ScriptedWorker.connect(account.workerToken, model);
  // The worker that had it may come back for two seconds.
  jump(2_000);
  await runDurableObjectAlarm(queueOf(model));
  const again = await other.next('lease');
  expect(again).toMatchObject({ epoch: 2 });
  expect(again.emittedIds).toHaveLength(64);
  other.start(again);
  other.tokens(again, 64, 6);
  await rest;
  other.finish(again, 70);
  expect(seen).toEqual(Array.from({ length: 70 }, (_, at) => at));
  expect((await reader.read()).value).toMatchObject({ type: 'finished', usage: { completionTokens: 70 } });
  expect(await rowOf(account, submission.jobId)).toMatchObject({
    status: 'completed',
    usage: { completionTokens: 70 },
  });
});

test('a waiting job whose reader does not come back after a crash is run for nobody, and cancelled', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const submission = await submit(account, jobRequest(model));
  await crash(model);
  // The new instance starts with this call; the broken stream is not read, so nobody re-attaches.
  expect(await queueOf(model).known([submission.jobId])).toEqual([submission.jobId]);
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(3);
  expect((await readAll(await submit(account, jobRequest(model)))).at(-1)?.type).toBe('finished');
  jump(10_001);
  await runDurableObjectAlarm(queueOf(model));
  expect(await rowOf(account, submission.jobId)).toMatchObject({ status: 'cancelled', usage: { costPicoUsd: 0 } });
});

test('an ended job is dropped after ten minutes', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(1);
  const { jobId, ...submission } = await submit(account, jobRequest(model));
  await readAll({ jobId, ...submission });
  await rowOf(account, jobId);
  expect(await queueOf(model).known([jobId])).toEqual([jobId]);
  jump(600_001);
  await runDurableObjectAlarm(queueOf(model));
  expect(await queueOf(model).known([jobId])).toEqual([]);
});
