/** Happy path: from a client's request over a worker's socket to the ledger. */
import { expect, test } from 'vitest';
import { call, jobRequest, moneyOf, newAccount, newModel, readAll, rowOf, submit } from './edge-under-test.ts';
import { ScriptedWorker } from './scripted-worker.ts';

test('a job is leased, streamed in order, settled, and its row equals its usage', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const submission = await submit(account, jobRequest(model));
  expect(submission.model).toBe(model.id);
  expect(await moneyOf(account)).toEqual({ spent: '0', reserved: '59' });

  const lease = await worker.next('lease');
  expect(lease.epoch).toBe(1);
  expect(lease.job).toMatchObject({ id: submission.jobId, model: model.id, promptTokenLimit: 3, maxNewTokens: 10 });
  worker.start(lease);
  worker.tokens(lease, 0, 2);
  worker.tokens(lease, 2, 2);
  worker.finish(lease, 4);

  const events = await readAll(submission);
  const usage = { promptTokens: 3, cachedTokens: 0, completionTokens: 4, costPicoUsd: 3 * 3 + 4 * 5 };
  expect(events[0]).toEqual({ type: 'started', backend: 'reference', promptTokens: 3, cachedTokens: 0 });
  const ids = events.flatMap((event) => (event.type === 'tokens' ? event.tokens.map(({ id }) => id) : []));
  expect(ids).toEqual([0, 1, 2, 3]);
  expect(events.at(-1)).toEqual({ type: 'finished', reason: 'length', text: '', usage, backend: 'reference' });
  expect(await rowOf(account, submission.jobId)).toMatchObject({ usage, status: 'completed', backend: 'reference' });
  expect(await moneyOf(account)).toEqual({ spent: '29', reserved: '0' });
});

test('32 requests at once are all answered and all booked', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model, { credits: 8 });
  worker.serve(3);
  const submissions = await Promise.all(Array.from({ length: 32 }, () => submit(account, jobRequest(model))));
  const ends = (await Promise.all(submissions.map(readAll))).map((events) => events.at(-1));
  expect(ends.every((end) => end?.type === 'finished')).toBe(true);
  for (const { jobId } of submissions) await rowOf(account, jobId);
  expect(await moneyOf(account)).toEqual({ spent: String(32 * 24), reserved: '0' });
});

test('the HTTP surface answers through the same path, with usage and cost', async () => {
  const account = await newAccount();
  const model = newModel();
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  worker.serve(2);
  const body = { model: model.id, prompt: [1, 2, 3], max_tokens: 5 };
  const response = await call('POST', '/v1/completions', account.apiKey, body);
  expect(response.status).toBe(200);
  const answer = await response.json<{ choices: { text: string }[]; usage: Record<string, number> }>();
  expect(answer.choices[0]?.text).toBe(' 0 1');
  expect(answer.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 });
  expect(response.headers.get('x-nibble-backend')).toBe('reference');
  const usage = await call('GET', `/v1/usage?request_id=${response.headers.get('x-request-id')}`, account.apiKey);
  expect(usage.status).toBe(200);
});

test('a request that names no model, or a URL, gets the default model', async () => {
  const account = await newAccount();
  const listed = await call('GET', '/v1/models', account.apiKey);
  const first = (await listed.json<{ data: { id: string }[] }>()).data[0]!.id;
  for (const name of [null, 'https://edge.example/v1']) {
    const submission = await submit(account, { ...jobRequest(null), model: name });
    expect(submission.model).toBe(first);
    await submission.events.cancel();
  }
});
