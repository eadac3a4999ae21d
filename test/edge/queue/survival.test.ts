/** Survival: an answer outlives the worker that began it. The client sees one answer; what is billed is the whole of it, once. */
import { afterEach, expect, test, vi } from 'vitest';
import type { JobEvent } from '../../../edge/api/service.ts';
import { jobRequest, moneyOf, newAccount, newModel, readAll, rowOf, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { pass, untilNoLease } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

const free = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, costPicoUsd: 0 };

async function linked(credits = 4) {
  const account = await newAccount();
  const model = newModel({ contextTokens: 5000 });
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits });
  return { account, model, worker };
}

const idsOf = (events: readonly JobEvent[]) =>
  events.flatMap((event) => (event.type === 'tokens' ? event.tokens.map(({ id }) => id) : []));
const upTo = (count: number) => Array.from({ length: count }, (_, at) => at);

test('a job whose worker dies in mid-answer goes on at another, after its accepted tokens', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 5);
  worker.close();
  const other = await ScriptedWorker.connect(account.workerToken, model);
  const again = await other.next('lease');
  expect(again).toMatchObject({ epoch: 2, job: { id: submission.jobId }, emittedIds: upTo(5) });
  // Another count of prompt tokens: what the first worker said holds.
  other.start(again, 2);
  other.tokens(again, 5, 3);
  other.finish(again, 8);
  const seen = await events;
  expect(seen.filter(({ type }) => type === 'started')).toHaveLength(1);
  expect(idsOf(seen)).toEqual(upTo(8));
  const usage = { promptTokens: 3, cachedTokens: 0, completionTokens: 8, costPicoUsd: 3 * 3 + 8 * 5 };
  expect(seen.at(-1)).toMatchObject({ type: 'finished', usage });
  expect(await rowOf(account, submission.jobId)).toMatchObject({ status: 'completed', usage });
  expect(await moneyOf(account)).toEqual({ spent: '49', reserved: '0' });
});

test('it goes ahead of jobs that came later', async () => {
  const { account, model, worker } = await linked(1);
  const first = await submit(account, jobRequest(model));
  const second = await submit(account, jobRequest(model));
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 1);
  worker.close();
  const other = await ScriptedWorker.connect(account.workerToken, model, { credits: 1 });
  const again = await other.next('lease');
  expect(again.job.id).toBe(first.jobId);
  other.finish(again, 1);
  expect((await other.next('lease')).job.id).toBe(second.jobId);
});

test('tokens that reached storage and tokens that did not go on alike', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model, { maxNewTokens: 100 }));
  const events = readAll(submission);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 64);
  await worker.next('ack');
  worker.tokens(lease, 64, 3);
  worker.close();
  const other = await ScriptedWorker.connect(account.workerToken, model);
  const again = await other.next('lease');
  expect(again.emittedIds).toEqual(upTo(67));
  other.start(again);
  other.tokens(again, 67, 33);
  other.finish(again, 100);
  expect(idsOf(await events)).toEqual(upTo(100));
});

test('a prompt that kills two workers at the same token fails by name, billed for what was accepted; the next one runs', async () => {
  const { account, model, worker } = await linked(1);
  const poison = await submit(account, jobRequest(model));
  const harmless = await submit(account, jobRequest(model));
  const events = readAll(poison);
  const lease = await worker.next('lease');
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  worker.close();
  const other = await ScriptedWorker.connect(account.workerToken, model, { credits: 1 });
  await other.next('lease');
  other.close();
  await untilNoLease(model);
  await pass(model, 2_000);
  const usage = { promptTokens: 3, cachedTokens: 0, completionTokens: 2, costPicoUsd: 19 };
  const failure = { code: 'poison_prompt', deaths: 2, tokens: 2 };
  expect((await events).at(-1)).toEqual({ type: 'failed', failure, usage });
  expect(await rowOf(account, poison.jobId)).toMatchObject({ status: 'failed', usage });
  const third = await ScriptedWorker.connect(account.workerToken, model);
  third.serve(1);
  expect((await readAll(harmless)).at(-1)?.type).toBe('finished');
});

test('a prompt that kills two workers before its first token is free', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  await worker.next('lease');
  worker.close();
  const other = await ScriptedWorker.connect(account.workerToken, model);
  await other.next('lease');
  other.close();
  await untilNoLease(model);
  await pass(model, 2_000);
  expect((await events).at(-1)).toMatchObject({ failure: { code: 'poison_prompt', tokens: 0 }, usage: free });
});

test('a prompt that gets further with each worker that it loses is given up at the fifth', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  let victim = worker;
  for (let deaths = 0; deaths < 5; deaths++) {
    const lease = await victim.next('lease');
    expect(lease.emittedIds).toHaveLength(deaths);
    victim.start(lease);
    victim.tokens(lease, deaths, 1);
    victim.close();
    await untilNoLease(model);
    victim = await ScriptedWorker.connect(account.workerToken, model);
  }
  await pass(model, 2_000);
  expect((await events).at(-1)).toMatchObject({ failure: { code: 'worker_lost', tokens: 5 } });
});

test('a worker that drains in mid-answer did not die of it, however often', async () => {
  const { account, model, worker } = await linked();
  const submission = await submit(account, jobRequest(model));
  const events = readAll(submission);
  let leaving = worker;
  for (let drains = 0; drains < 6; drains++) {
    const lease = await leaving.next('lease');
    leaving.start(lease);
    if (drains === 0) leaving.tokens(lease, 0, 1);
    leaving.send({ type: 'draining' });
    leaving.close();
    leaving = await ScriptedWorker.connect(account.workerToken, model);
  }
  const lease = await leaving.next('lease');
  expect(lease.emittedIds).toEqual([0]);
  leaving.finish(lease, 1);
  expect((await events).at(-1)).toMatchObject({ type: 'finished', usage: { completionTokens: 1 } });
});
