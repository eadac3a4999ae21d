/** Answers: the fallback stands in for workers, through the queue that workers use. */
import { expect, test } from 'vitest';
import { admin, call, moneyOf, newAccount, readAll, rowOf, submit } from '../edge-under-test.ts';
import { ScriptedWorker } from '../scripted-worker.ts';
import { cardOf, demoWithFallback, readRest, readTokens, storyRequest, textOf } from './demo-model.ts';

test('a model without workers answers from the edge; its row is exact and names the backend', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/answers', 'when-no-worker');
  const submission = await submit(account, storyRequest(model));
  const events = await readAll(submission);
  expect(events[0]).toMatchObject({ type: 'started', backend: 'edge-wasm' });
  expect(textOf(events)).toMatch(/Milo/);
  // Tokens come as they are made, not in one lump.
  expect(events.filter((event) => event.type === 'tokens').length).toBeGreaterThan(8);
  const usage = { promptTokens: 15, cachedTokens: 0, completionTokens: 120, costPicoUsd: 15 * 3 + 120 * 5 };
  expect(events.at(-1)).toMatchObject({ type: 'finished', reason: 'length', backend: 'edge-wasm', usage });
  expect(await rowOf(account, submission.jobId)).toMatchObject({ usage, status: 'completed', backend: 'edge-wasm' });
  expect(await moneyOf(account)).toEqual({ spent: String(usage.costPicoUsd), reserved: '0' });
});

test('the HTTP surface says who answered, in the header and in a stream’s last event', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/http', 'when-no-worker');
  const body = { model, messages: [{ role: 'user', content: 'What is Nibble?' }], temperature: 0 };
  const whole = await call('POST', '/v1/chat/completions', account.apiKey, body);
  expect([whole.status, whole.headers.get('x-nibble-backend')]).toEqual([200, 'edge-wasm']);
  const answer = await whole.json<{ model: string; choices: { message: { content: string } }[]; usage: object }>();
  expect(answer.model).toBe(model);
  expect(answer.choices[0]!.message.content).toMatch(/quantized language models/);

  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const streamed = await call('POST', '/v1/chat/completions', account.apiKey, asked);
  const chunks = (await streamed.text())
    .split('\n')
    .filter((line) => line.startsWith('data: {'))
    .map((line) => JSON.parse(line.slice('data: '.length)));
  const text = chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? '').join('');
  expect(text).toBe(answer.choices[0]!.message.content);
  expect(chunks.every((chunk) => chunk.model === model)).toBe(true);
  const usage = await (await call('GET', '/v1/usage?limit=2', account.apiKey)).json<{ data: { cost_usd: number }[] }>();
  expect(chunks.at(-1)).toMatchObject({
    nibble: { backend: 'edge-wasm' },
    usage: { ...answer.usage, cost_usd: usage.data[0]!.cost_usd },
  });
});

test('several at once get the texts they get alone', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/together', 'when-no-worker');
  const requests = Array.from({ length: 6 }, (_, seed) =>
    storyRequest(model, { maxNewTokens: 40, sampling: { temperature: 1, topK: null, topP: null, seed } }),
  );
  const alone: string[] = [];
  for (const request of requests) alone.push(textOf(await readAll(await submit(account, request))));
  const together = await Promise.all(requests.map(async (request) => readAll(await submit(account, request))));
  expect(together.map(textOf)).toEqual(alone);
  expect(new Set(alone).size).toBe(6);
});

test('a reader that leaves cancels the job; what came until then is billed', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/cancel', 'when-no-worker');
  const submission = await submit(account, storyRequest(model, { maxNewTokens: 400 }));
  const reader = submission.events.getReader();
  await readTokens(reader, 8);
  await reader.cancel();
  const row = await rowOf(account, submission.jobId);
  expect(row).toMatchObject({ status: 'cancelled', backend: 'edge-wasm' });
  expect(row.usage.completionTokens).toBeGreaterThanOrEqual(8);
  expect(row.usage.completionTokens).toBeLessThan(400);
  expect(await moneyOf(account)).toEqual({ spent: String(row.usage.costPicoUsd), reserved: '0' });
});

test('a worker that connects takes new requests; what the fallback has begun it finishes', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/takeover', 'when-no-worker');
  const begun = (await submit(account, storyRequest(model, { maxNewTokens: 300 }))).events.getReader();
  const first = await readTokens(begun, 8);
  const worker = await ScriptedWorker.connect(account.workerToken, await cardOf(account, model));
  worker.serve(3);
  const next = await readAll(await submit(account, storyRequest(model)));
  expect(next.at(-1)).toMatchObject({ type: 'finished', backend: 'reference' });
  expect([...first, ...(await readRest(begun))].at(-1)).toMatchObject({
    type: 'finished',
    backend: 'edge-wasm',
    usage: { completionTokens: 300 },
  });
  worker.close();
  const again = await readAll(await submit(account, storyRequest(model, { maxNewTokens: 4 })));
  expect(again.at(-1)).toMatchObject({ type: 'finished', backend: 'edge-wasm' });
});

test('the policy holds: always answers beside a worker, never leaves the job to workers', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/policy', 'always');
  const worker = await ScriptedWorker.connect(account.workerToken, await cardOf(account, model));
  worker.serve(3);
  const backendOf = async () => {
    const events = await readAll(await submit(account, storyRequest(model, { maxNewTokens: 3 })));
    const end = events.at(-1)!;
    return end.type === 'finished' ? end.backend : JSON.stringify(end);
  };
  expect(await backendOf()).toBe('edge-wasm');
  await admin('PUT', `/models/${model}`, { fallback: 'never' });
  await new Promise((resolve) => setTimeout(resolve, 2100));
  expect(await backendOf()).toBe('reference');
});
