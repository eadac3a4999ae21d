/** Answers: the fallback stands in for workers, through the queue that workers use. */
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import { call, moneyOf, newAccount, readAll, rowOf, submit } from '../edge-under-test.ts';
import { demoWithFallback, storyRequest, textOf } from './demo-model.ts';

test('a model without workers answers from the edge; its row is exact and names the backend', async () => {
  const account = await newAccount();
  const model = await demoWithFallback('demo/answers', 'when-no-worker');
  const submission = await submit(account, storyRequest(model));
  const events = await readAll(submission);
  expect(events[0]).toMatchObject({ type: 'started', backend: 'edge-wasm' });
  expect(textOf(events)).toMatch(/Milo/);
  const usage = { promptTokens: 15, cachedTokens: 0, completionTokens: 120, costPicoUsd: 15 * 3 + 120 * 5 };
  expect(events.at(-1)).toMatchObject({ type: 'finished', reason: 'length', backend: 'edge-wasm', usage });
  expect(await rowOf(account, submission.jobId)).toMatchObject({ usage, status: 'completed', backend: 'edge-wasm' });
  expect(await moneyOf(account)).toEqual({ spent: String(usage.costPicoUsd), reserved: '0' });
});
