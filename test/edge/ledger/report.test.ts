/** Report: the copy in D1 has every row once, however often and in whatever order messages come. */
import { runDurableObjectAlarm } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test, vi } from 'vitest';
import type { ReportMessage, ReportRow } from '../../../edge/report/message.ts';
import { Report } from '../../../edge/report/report.ts';
import { admin, jobRequest, newAccount, newModel, readAll, rowOf, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';

const report = new Report(env.REPORTS!);
const row = (seq: number, cost: string): ReportRow => ({
  seq,
  job_id: `job-${seq}`,
  key_id: 'key',
  user: null,
  created_ms: 1_000,
  settled_ms: 2_000,
  model: 'm',
  prompt_tokens: 3,
  cached_tokens: 1,
  completion_tokens: 2,
  cost,
  tariff: '{}',
  status: 'completed',
  backend: null,
});
const everything = {
  originMs: 0,
  fromMs: 0,
  toMs: 86_400_000,
  widthMs: 86_400_000,
  keyIds: null,
  models: null,
  users: null,
};

test('messages that come twice and out of order are rows once, summed exactly beyond a double', async () => {
  const dear = '5194304000000000';
  const messages: ReportMessage[] = [
    { accountId: 'Report000001', rows: [row(3, dear), row(4, dear)] },
    { accountId: 'Report000001', rows: [row(1, '1'), row(2, dear)] },
    { accountId: 'Report000002', rows: [row(1, '7')] },
  ];
  await report.accept(messages);
  await report.accept([...messages].reverse());
  expect(await report.progress('Report000001')).toEqual({ numRows: 4, lastSeq: 4 });
  const sums = await report.sums({ ...everything, groupBy: ['account'], accounts: ['Report000001', 'Report000002'] });
  expect(sums).toMatchObject([
    { bucket: 0, accountId: 'Report000001', numRequests: 4, cachedTokens: 4, costPico: 3n * BigInt(dear) + 1n },
    { bucket: 0, accountId: 'Report000002', numRequests: 1, costPico: 7n },
  ]);
});

/** An account whose ledger has three rows of one model. */
async function withThreeRows() {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(2);
  for (let jobs = 0; jobs < 3; jobs++) {
    const submission = await submit(account, jobRequest(model));
    await readAll(submission);
    await rowOf(account, submission.jobId);
  }
  return { account, model };
}

test('the ledger’s rows reach the copy through the queue, and the operator’s report', async () => {
  const { account, model } = await withThreeRows();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 });
  await runDurableObjectAlarm(env.ACCOUNT.getByName(account.id));
  vi.useRealTimers();
  await vi.waitFor(async () => expect(await report.progress(account.id)).toEqual({ numRows: 3, lastSeq: 3 }), {
    timeout: 20_000,
    interval: 200,
  });
  const answer = await admin<{ data: { results: object[] }[] }>(
    'GET',
    `/usage?group_by=account,model&account_ids=${account.id}`,
  );
  expect(answer.data.flatMap(({ results }) => results)).toMatchObject([
    {
      account_id: account.id,
      model: model.id,
      requests: 3,
      prompt_tokens: 9,
      completion_tokens: 6,
      cost_pico_usd: '57',
    },
  ]);
});

test('rows that the copy lost are fed again from a place in the ledger on, once each', async () => {
  const { account } = await withThreeRows();
  const object = env.ACCOUNT.getByName(account.id);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 });
  await runDurableObjectAlarm(object);
  vi.useRealTimers();
  const rows = (numRows: number) =>
    vi.waitFor(async () => expect(await report.progress(account.id)).toEqual({ numRows, lastSeq: 3 }), {
      timeout: 20_000,
      interval: 200,
    });
  await rows(3);
  await env.REPORTS!.prepare('DELETE FROM entry WHERE account = ? AND seq < 3').bind(account.id).run();
  expect(await admin('POST', `/accounts/${account.id}/export`, { after: 1 })).toEqual({ after: 1, last: 3 });
  await runDurableObjectAlarm(object);
  await rows(2);
  await admin('POST', `/accounts/${account.id}/export`, {});
  await runDurableObjectAlarm(object);
  await rows(3);
});
