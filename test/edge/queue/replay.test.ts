/** Replay: a worker comes back after its socket, or the queue's memory, was lost, and goes on with the leases it has. */
import { evictDurableObject } from 'cloudflare:test';
import { afterEach, expect, test, vi } from 'vitest';
import type { HeldLease, ModelCard } from '../../../core/protocol.ts';
import type { JobEvent, JobRequest } from '../../../edge/api/service.ts';
import {
  jobRequest,
  newAccount,
  newModel,
  queueOf,
  rowOf,
  service,
  submit,
  type TestAccount,
} from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { crash, pass, untilNoLease } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

const upTo = (count: number) => Array.from({ length: count }, (_, at) => at);

/** A client that reads all along. */
class Reading {
  readonly ids: number[] = [];
  readonly end: Promise<JobEvent>;

  constructor(events: ReadableStream<JobEvent>) {
    this.end = this.#read(events);
  }

  async #read(events: ReadableStream<JobEvent>): Promise<JobEvent> {
    let last: JobEvent | null = null;
    for await (const event of events) {
      if (event.type === 'tokens') this.ids.push(...event.tokens.map(({ id }) => id));
      last = event;
    }
    return last!;
  }

  async had(count: number): Promise<void> {
    await vi.waitFor(() => expect(this.ids.length).toBeGreaterThanOrEqual(count), { timeout: 10_000 });
  }
}

/** A job under its first lease, with so many tokens accepted. */
async function begun(tokens: number) {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const { jobId, events } = await submit(account, jobRequest(model, { maxNewTokens: 100 }));
  const client = new Reading(events);
  const lease = await worker.next('lease');
  worker.start(lease);
  for (let from = 0; from < tokens; from += 64) worker.tokens(lease, from, Math.min(64, tokens - from));
  await client.had(tokens);
  const { workerId } = worker;
  const held: HeldLease = { jobId, epoch: 1, from: 0 };
  const connect = (leases: HeldLease[] = [], id?: string) =>
    ScriptedWorker.connect(account.workerToken, model, { leases, ...(id && { workerId: id }) });
  return { account, model, worker, workerId, jobId, client, lease, held, connect };
}

test('after a cut the same lease goes on where the queue is; what it has already does not count twice', async () => {
  const { account, model, worker, workerId, jobId, client, lease, held, connect } = await begun(5);
  worker.close();
  await untilNoLease(model);
  const back = await connect([held], workerId);
  expect(await back.next('kept')).toEqual({ type: 'kept', jobId, epoch: 1, tokens: 5 });
  back.start(lease);
  back.tokens(lease, 3, 4);
  back.finish(lease, 7);
  const usage = { promptTokens: 3, completionTokens: 7 };
  expect(await client.end).toMatchObject({ type: 'finished', usage });
  expect(client.ids).toEqual(upTo(7));
  expect(await back.next('ended')).toEqual({ type: 'ended', jobId, epoch: 1 });
  expect(await rowOf(account, jobId)).toMatchObject({ status: 'completed', usage });
});

test('an end that was reached while the link was down is told on return', async () => {
  const { worker, workerId, model, client, lease, held, connect } = await begun(2);
  worker.close();
  await untilNoLease(model);
  const back = await connect([held], workerId);
  const { tokens } = await back.next('kept');
  back.tokens(lease, tokens, 2);
  back.finish(lease, 4);
  expect(await client.end).toMatchObject({ type: 'finished', usage: { completionTokens: 4 } });
});

test('a worker that comes back before its old socket is noticed takes its place', async () => {
  const { worker, workerId, client, lease, held, connect } = await begun(2);
  const back = await connect([held], workerId);
  expect(await back.next('kept')).toMatchObject({ tokens: 2 });
  await worker.untilClosed();
  back.tokens(lease, 2, 1);
  back.finish(lease, 3);
  expect(await client.end).toMatchObject({ type: 'finished', usage: { completionTokens: 3 } });
});

test('a lease that another worker has by now is void, and its frames are ignored', async () => {
  const { model, worker, workerId, jobId, client, lease, held, connect } = await begun(5);
  const other = await connect();
  worker.close();
  const again = await other.next('lease');
  expect(again).toMatchObject({ epoch: 2, emittedIds: upTo(5) });
  const back = await connect([held], workerId);
  expect(await back.next('cancel')).toEqual({ type: 'cancel', jobId, epoch: 1 });
  back.tokens(lease, 5, 90);
  back.finish(lease, 95);
  other.start(again);
  other.tokens(again, 5, 1);
  other.finish(again, 6);
  expect(await client.end).toMatchObject({ type: 'finished', usage: { completionTokens: 6 } });
  expect(client.ids).toEqual(upTo(6));
  await pass(model, 0);
});

test('a worker may come back only with what it has: not another’s lease, not a past one, not without the frames', async () => {
  const { model, worker, workerId, jobId, client, held, connect } = await begun(5);
  worker.close();
  await untilNoLease(model);
  const stranger = await ScriptedWorker.dial((await newAccount()).workerToken, model);
  stranger.hello(model, 0, { leases: [held] });
  await stranger.next('cancel');
  const past = await ScriptedWorker.dial((await newAccount()).workerToken, model, workerId);
  past.hello(model, 0, { leases: [{ ...held, epoch: 2 }] });
  await past.next('cancel');
  const gap = await connect([{ ...held, from: 6 }], workerId);
  await gap.next('cancel');
  const again = await gap.next('lease');
  expect(again).toMatchObject({ job: { id: jobId }, epoch: 2, emittedIds: upTo(5) });
  gap.finish(again, 5);
  expect(await client.end).toMatchObject({ type: 'finished' });
});

test('a worker that comes back did not die, however often its socket is cut', async () => {
  const { model, worker, workerId, client, lease, held, connect } = await begun(1);
  let now = worker;
  for (let cuts = 0; cuts < 6; cuts++) {
    now.close();
    await untilNoLease(model);
    now = await connect([held], workerId);
    await now.next('kept');
  }
  now.finish(lease, 1);
  expect(await client.end).toMatchObject({ type: 'finished', usage: { completionTokens: 1 } });
});

test('a job that one more death would end waits for its worker to come back', async () => {
  const { model, worker, client, jobId, connect } = await begun(1);
  worker.close();
  await untilNoLease(model);
  const other = await connect();
  const again = await other.next('lease');
  other.close();
  await untilNoLease(model);
  await pass(model, 1_000);
  const back = await connect([{ jobId, epoch: 2, from: 1 }], other.workerId);
  await back.next('kept');
  back.finish(again, 1);
  expect(await client.end).toMatchObject({ type: 'finished' });
});

test('after a crash the worker has two seconds to come back, and its frames fill the memory that was lost', async () => {
  const { account, model, workerId, jobId, client, lease, connect } = await begun(67);
  await crash(model);
  const other = await connect();
  const back = await connect([{ jobId, epoch: 1, from: 64 }], workerId);
  expect(await back.next('kept')).toEqual({ type: 'kept', jobId, epoch: 1, tokens: 64 });
  back.start(lease);
  back.tokens(lease, 64, 6);
  back.finish(lease, 70);
  expect(await client.end).toMatchObject({ type: 'finished', usage: { completionTokens: 70 } });
  expect(client.ids).toEqual(upTo(70));
  expect(await rowOf(account, jobId)).toMatchObject({ usage: { completionTokens: 70 } });
  other.close();
});

test('a crash is nobody’s death: a job that lost its worker to many goes on', async () => {
  const { model, client, jobId, connect } = await begun(0);
  for (let epoch = 2; epoch < 4; epoch++) {
    await crash(model);
    const next = await connect();
    await pass(model, 2_000);
    expect(await next.next('lease')).toMatchObject({ epoch, job: { id: jobId } });
  }
  await crash(model);
  const last = await connect();
  await pass(model, 2_000);
  const lease = await last.next('lease');
  last.start(lease);
  last.tokens(lease, 0, 1);
  last.finish(lease, 1);
  expect(await client.end).toMatchObject({ type: 'finished' });
});

test('an eviction in mid-answer keeps the socket; the worker sends again what was not stored, and frames on their way do not count', async () => {
  // An object with an open response or a timer is not evicted here: its ticks do not come, and a client with an idempotency key has left.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const jobId = await submitAndLeave(account, model, { maxNewTokens: 100 });
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 64);
  await worker.next('ack');
  worker.tokens(lease, 64, 3);
  await evictDurableObject(queueOf(model));
  // On their way while the queue forgot the tail.
  worker.tokens(lease, 67, 1);
  worker.tokens(lease, 68, 1);
  expect(await worker.next('kept')).toEqual({ type: 'kept', jobId, epoch: 1, tokens: 64 });
  worker.start(lease);
  worker.tokens(lease, 64, 5);
  worker.tokens(lease, 69, 1);
  worker.finish(lease, 70);
  await worker.next('ended');
  expect(await rowOf(account, jobId)).toMatchObject({ status: 'completed', usage: { completionTokens: 70 } });
});

/** A job whose client may come back, and went away. */
async function submitAndLeave(account: TestAccount, model: ModelCard, overrides: Partial<JobRequest>): Promise<string> {
  const options = { user: null, idempotency: { key: 'k', bodyHash: 'h', ifNew: 'run' } as const };
  const { signal } = new AbortController();
  const submitted = await service.submit(account.caller, jobRequest(model, overrides), signal, options);
  if (!submitted.ok) throw new Error('refused');
  await submitted.value.events.cancel();
  return submitted.value.jobId;
}
