/** Losses: an isolate may end at any time; the answer goes on from the queue's tokens to the text it would have had. */

import { evictDurableObject, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { beforeAll, describe, expect, test } from 'vitest';
import { queueName } from '../../../edge/queue/shards.ts';
import { newAccount, readAll, rowOf, submit, type TestAccount } from '../edge-under-test.ts';
import { demoWithFallback, readRest, readTokens, storyRequest, textOf } from './demo-model.ts';

const MODEL = 'demo/losses';
const TOKENS = 400;
let account: TestAccount;
let uninterrupted: string;

const request = () => storyRequest(MODEL, { maxNewTokens: TOKENS });

beforeAll(async () => {
  account = await newAccount();
  await demoWithFallback(MODEL, 'when-no-worker');
  uninterrupted = textOf(await readAll(await submit(account, request())));
  expect(uninterrupted.length).toBeGreaterThan(500);
});

const abort = async (stub: DurableObjectStub) => {
  await runInDurableObject(stub, (_, ctx) => ctx.abort('the test ends it')).catch(() => undefined);
};

const losses: Record<string, () => Promise<void>> = {
  'the fallback’s object is aborted': () => abort(env.FALLBACK.getByName(MODEL)),
  'the fallback’s object is evicted': () => evictDurableObject(env.FALLBACK.getByName(MODEL)),
  'the queue’s object is aborted': () => abort(env.QUEUE.getByName(queueName(MODEL))),
};

describe.each(Object.entries(losses))('when %s', (_, lose) => {
  test('three times in mid-answer, the text is the same, and every token is billed once', async () => {
    const submission = await submit(account, request());
    const reader = submission.events.getReader();
    const events = await readTokens(reader, 30);
    for (let times = 0; times < 3; times++) {
      await lose();
      events.push(...(await readTokens(reader, 60)));
    }
    events.push(...(await readRest(reader)));
    expect(textOf(events)).toBe(uninterrupted);
    const ids = events.flatMap((event) => (event.type === 'tokens' ? event.tokens : []));
    expect(ids).toHaveLength(TOKENS);
    const usage = { promptTokens: 15, completionTokens: TOKENS, costPicoUsd: 15 * 3 + TOKENS * 5 };
    expect(events.at(-1)).toMatchObject({ type: 'finished', backend: 'edge-wasm', usage });
    expect(await rowOf(account, submission.jobId)).toMatchObject({ usage, status: 'completed', backend: 'edge-wasm' });
  });
});
