/** Slow readers: what a client does not take stays in storage, not in the memory of the queue object or of the edge. */
import { exports } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import type { TokenOut } from '../../../core/protocol.ts';
import { newAccount, newModel, queueOf, rowOf } from '../edge-under-test.ts';
import { type Lease, ScriptedWorker } from '../scripted-worker.ts';

const NUM_TOKENS = 12_800;
/** So that the whole answer is some 9 MB of events. */
const TEXT_CHARS = 600;
/** As the reader's: 64 kB, and at most one stored row of 64 tokens past it. */
const MOST_BUFFERED_BYTES = 65_536 + 64 * (TEXT_CHARS + 100);

const texts = (from: number, count: number) =>
  Array.from({ length: count }, (_, at) => `${from + at}`.padStart(TEXT_CHARS, ' '));

function say(worker: ScriptedWorker, lease: Lease, from: number): void {
  const tokens: TokenOut[] = texts(from, 64).map((text, at) => ({
    id: at,
    logprob: -1,
    text,
    special: false,
    top: [],
  }));
  worker.frames({ jobId: lease.job.id, epoch: lease.epoch, kind: 'tokens', from, tokens });
}

test('a stalled reader of a long answer costs the object its buffer and nothing else, and gets the answer when it reads on', async () => {
  const account = await newAccount();
  const model = newModel({ contextTokens: 20_000 });
  const worker = await ScriptedWorker.connect(account.workerToken, model);
  const request = (key: string) =>
    exports.default.fetch('http://edge/v1/completions', {
      method: 'POST',
      headers: {
        authorization: `Bearer ${account.apiKey}`,
        'content-type': 'application/json',
        'idempotency-key': key,
      },
      body: JSON.stringify({ model: model.id, prompt: [1, 2, 3], max_tokens: NUM_TOKENS, stream: true }),
    });
  const stalledResponse = request('k');
  const lease = await worker.next('lease');
  worker.start(lease);
  say(worker, lease, 0);
  const stalled = (await stalledResponse).body!.getReader();
  const decoder = new TextDecoder();
  let read = decoder.decode((await stalled.read()).value, { stream: true });
  // A second reader takes everything: the first one holds nobody up.
  const taken = (await request('k')).text();
  const object = queueOf(model);
  for (let from = 64; from < NUM_TOKENS; from += 64) {
    say(worker, lease, from);
    await worker.next('ack');
    if (from % 1280 === 0)
      for (const { bufferedBytes } of await object.readers())
        expect(bufferedBytes).toBeLessThanOrEqual(MOST_BUFFERED_BYTES);
  }
  worker.finish(lease, NUM_TOKENS);
  expect((await rowOf(account, lease.job.id)).usage.completionTokens).toBe(NUM_TOKENS);
  const wanted = texts(0, NUM_TOKENS).join('');
  const textIn = (events: string) =>
    [...events.matchAll(/^data: (\{.*)$/gm)].map(([, json]) => JSON.parse(json!).choices[0].text).join('');
  const whole = await taken;
  expect(whole.length).toBeGreaterThan(9_000_000);
  expect(textIn(whole)).toBe(wanted);

  const readers = await object.readers();
  expect(readers).toHaveLength(1);
  expect(readers[0]!.bufferedBytes).toBeGreaterThan(0);
  expect(readers[0]!.bufferedBytes).toBeLessThanOrEqual(MOST_BUFFERED_BYTES);
  // All that ever left storage for this client, wherever between the object and the client it is now.
  expect(readers[0]!.writtenBytes).toBeLessThanOrEqual(3 * MOST_BUFFERED_BYTES);

  for (;;) {
    const { done, value } = await stalled.read();
    if (done) break;
    read += decoder.decode(value, { stream: true });
  }
  expect(textIn(read)).toBe(wanted);
});
