/** Leases: what happens to a job when its client leaves, its worker dies, or its worker misbehaves. */
import { expect, test } from 'vitest';
import type { JobEvent } from '../../../edge/api/service.ts';
import {
  idleModel,
  jobRequest,
  moneyOf,
  newAccount,
  newModel,
  queueOf,
  readAll,
  rowOf,
  submit,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

const free = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, costPicoUsd: 0 };

async function linked(credits = 4) {
  const account = await newAccount();
  const model = newModel({ contextTokens: 5000 });
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits });
  return { account, model, worker };
}

/** Reads to the first event of a type. */
async function readTo(reader: ReadableStreamDefaultReader<JobEvent>, type: JobEvent['type']): Promise<JobEvent> {
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the stream ended before ${type}`);
    if (value.type === type) return value;
  }
}

test('a client that leaves cancels the job at once and pays for the tokens until then', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const reader = submission.events.getReader();
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 3);
  await readTo(reader, 'tokens');
  await reader.cancel();
  expect(await worker.next('cancel')).toEqual({ type: 'cancel', jobId: submission.jobId, epoch: 1 });
  const row = await rowOf(account, submission.jobId);
  expect(row).toMatchObject({ status: 'cancelled', usage: { promptTokens: 3, completionTokens: 3, costPicoUsd: 24 } });
  worker.tokens(lease, 3, 1);
  const next = await submit(account, jobRequest(model));
  worker.start(await worker.next('lease'));
  await readTo(next.events.getReader(), 'started');
  expect((await rowOf(account, submission.jobId)).usage.completionTokens).toBe(3);
});

test("the abort of a client's request cancels its job, free before the first token", async () => {
  const { account, model, worker } = await linked();
  const client = new AbortController();
  const submission = await submit(account, jobRequest(model), client.signal);
  const lease = await worker.next('lease');
  worker.start(lease);
  client.abort();
  await worker.next('cancel');
  expect(await rowOf(account, submission.jobId)).toMatchObject({ status: 'cancelled', usage: free });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '0' });
});

test('a waiting job that is cancelled never reaches a worker', async () => {
  const account = await newAccount();
  const model = await idleModel();
  const left = await submit(account, jobRequest(model));
  const kept = await submit(account, jobRequest(model));
  await left.events.cancel();
  expect(await rowOf(account, left.jobId)).toMatchObject({ status: 'cancelled', usage: free, backend: null });
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  expect((await worker.next('lease')).job.id).toBe(kept.jobId);
});

test('frames of an earlier lease, and of another socket, are ignored', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  const stale = await worker.next('lease');
  worker.close();
  const holder = await ScriptedWorker.connect(account.workerToken, model);
  const lease = await holder.next('lease');
  const stranger = await ScriptedWorker.connect(account.workerToken, model);
  stranger.start(lease, 2);
  stranger.tokens(lease, 0, 1);
  stranger.finish(lease, 1);
  holder.start(stale, 1);
  holder.start(lease);
  holder.tokens(stale, 0, 2);
  holder.tokens(lease, 0, 4);
  holder.finish(lease, 4);
  const end = (await events).at(-1);
  expect(end).toMatchObject({ type: 'finished', usage: { promptTokens: 3, completionTokens: 4 } });
});

test('tokens out of order end the job with what was accepted, and the worker is told to stop', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  worker.tokens(lease, 3, 1);
  expect((await events).at(-1)).toMatchObject({
    failure: { code: 'generation_failed', reason: expect.stringContaining('start at 3, but 2 were accepted') },
    usage: { completionTokens: 2, costPicoUsd: 19 },
  });
  await worker.next('cancel');
});

test('tokens above the reservation are neither passed on nor billed', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model, { maxNewTokens: 2 }));
  const events = readAll(submission);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  worker.tokens(lease, 2, 1);
  expect((await events).at(-1)).toMatchObject({
    failure: { code: 'generation_failed' },
    usage: { completionTokens: 2 },
  });
});

test('a prompt above its reservation ends the job unbilled', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.start(lease, 4);
  await worker.next('cancel');
  expect(await readAll(submission)).toEqual([
    { type: 'failed', failure: { code: 'reservation_exceeded', promptTokens: 4, reservedTokens: 3 }, usage: free },
  ]);
});

test("a worker's own failure ends the job without its reason", async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.frames({
    jobId: lease.job.id,
    epoch: lease.epoch,
    kind: 'failed',
    failure: { code: 'internal', reason: 'out of memory' },
  });
  const [end] = await readAll(submission);
  expect(end).toMatchObject({ type: 'failed', failure: { code: 'generation_failed' }, usage: free });
});

test('a worker that counts other tokens is quarantined; its answer stands as accepted', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  worker.finish(lease, 3);
  expect((await readAll(submission)).at(-1)).toMatchObject({ type: 'finished', usage: { completionTokens: 2 } });
  await worker.untilClosed();
  const back = await ScriptedWorker.dial(account.workerToken, model, worker.workerId);
  back.hello(model, 4);
  expect(await back.next('refused')).toMatchObject({ failure: { code: 'conflict' } });
  await queueOf(model).reinstate(worker.workerId);
  await ScriptedWorker.connect(account.workerToken, model, { workerId: worker.workerId });
});

test('64 tokens are acknowledged once they are stored', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model, { maxNewTokens: 100 }));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 63);
  worker.tokens(lease, 63, 1);
  expect(await worker.next('ack')).toEqual({ type: 'ack', jobId: submission.jobId, epoch: 1, tokens: 64 });
  await submission.events.cancel();
});

test('a reader that stalls loses nothing and holds nobody up', async () => {
  const { account, model, worker } = await linked();
  const count = 4000;
  const slow = await submit(account, jobRequest(model, { maxNewTokens: count }));
  const lease = await worker.next('lease');
  worker.start(lease);
  for (let from = 0; from < count; from += 50) worker.tokens(lease, from, 50);
  worker.finish(lease, count);
  expect((await rowOf(account, slow.jobId)).usage.completionTokens).toBe(count);
  const events = await readAll(slow);
  const ids = events.flatMap((event) => (event.type === 'tokens' ? event.tokens.map(({ id }) => id) : []));
  expect(ids).toEqual(Array.from({ length: count }, (_, at) => at));
  expect(events.at(-1)?.type).toBe('finished');
});

test('an ended job can be read again from any token', async () => {
  const { account, model, worker } = await linked();
  worker.serve(7);
  const submission = await submit(account, jobRequest(model));
  await readAll(submission);
  const response = await queueOf(model).fetch(`https://queue/jobs/${submission.jobId}/events?from=5`);
  const events = new TextDecoder()
    .decode(await response.arrayBuffer())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as JobEvent);
  expect(events.map((event) => event.type)).toEqual(['started', 'tokens', 'finished']);
  expect(events[1]).toMatchObject({ from: 5, tokens: [{ id: 5 }, { id: 6 }] });
  expect((await queueOf(model).fetch('https://queue/jobs/unknown/events?from=0')).status).toBe(404);
});

test('a draining worker gets no new lease and may finish what it has', async () => {
  const { account, model, worker } = await linked();
  const first = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.send({ type: 'draining' });
  worker.start(lease);
  await readTo(first.events.getReader(), 'started');
  const second = await submit(account, jobRequest(model));
  worker.tokens(lease, 0, 1);
  worker.finish(lease, 1);
  expect(await rowOf(account, first.jobId)).toMatchObject({ status: 'completed' });
  const other = await ScriptedWorker.connect(account.workerToken, model);
  expect((await other.next('lease')).job.id).toBe(second.jobId);
});

test('leases that cross a farewell on the wire go on to another worker, however often: a drain is no death', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  let leaving = worker;
  for (let drains = 0; drains < 3; drains++) {
    await leaving.next('lease');
    leaving.send({ type: 'draining' });
    leaving.close();
    leaving = await ScriptedWorker.connect(account.workerToken, model);
  }
  leaving.start(await leaving.next('lease'));
  leaving.close();
  const last = await ScriptedWorker.connect(account.workerToken, model);
  last.serve(2);
  expect((await events).at(-1)).toMatchObject({ type: 'finished', usage: { completionTokens: 2 } });
});
