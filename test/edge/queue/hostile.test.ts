/** Hostile workers: messages that are well-formed and larger than anything true. */
import { afterEach, expect, test, vi } from 'vitest';
import type { JobEvent, Submission } from '../../../edge/api/service.ts';
import { jobRequest, moneyOf, newAccount, newModel, readAll, rowOf, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { pass, untilNoLease } from './faults.ts';

afterEach(() => {
  vi.useRealTimers();
});

const free = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, costPicoUsd: 0 };

test('a token that no row would hold closes the socket that sent it, and its job ends free', async () => {
  const account = await newAccount();
  const model = newModel();
  const text = 'x'.repeat(2_500_000);
  let submission: Submission | null = null;
  let events: Promise<JobEvent[]> | null = null;
  for (const death of [1, 2]) {
    const worker = await ScriptedWorker.connect(account.workerToken, model);
    submission ??= await submit(account, jobRequest(model));
    events ??= readAll(submission);
    const lease = await worker.next('lease');
    expect(lease.epoch).toBe(death);
    const of = { jobId: lease.job.id, epoch: lease.epoch };
    worker.start(lease);
    worker.frames({ ...of, kind: 'tokens', from: 0, tokens: [{ id: 0, logprob: -1, text, special: false, top: [] }] });
    await worker.untilClosed();
  }
  await untilNoLease(model);
  await pass(model, 2_000);
  expect((await events)?.at(-1)).toMatchObject({
    failure: { code: 'poison_prompt', deaths: 2, tokens: 0 },
    usage: free,
  });
  expect(await rowOf(account, submission!.jobId)).toMatchObject({ status: 'failed', usage: free });
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '0' });
});

test('a card whose context could cost more than a number holds exactly is refused', async () => {
  const account = await newAccount();
  const model = newModel({ contextTokens: 2 ** 22 + 1 });
  const worker = await ScriptedWorker.dial(account.workerToken, model);
  worker.hello(model, 1);
  expect((await worker.next('refused')).failure).toMatchObject({ param: 'model.contextTokens' });
});
