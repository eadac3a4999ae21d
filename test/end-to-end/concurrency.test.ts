import { afterAll, beforeAll, expect, test } from 'vitest';
import { RunningEdge } from './running-edge.ts';
import { sseData } from './sse.ts';

const STREAMS = 32;
let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start();
});
afterAll(async () => {
  await edge?.stop();
});

interface Streamed {
  requestId: string;
  text: string;
  usage: { prompt_tokens: number; completion_tokens: number; cost_usd: number };
}

const animals = ['fox', 'rabbit', 'bear', 'cat', 'dog', 'owl', 'mouse', 'duck'];
/** Greedy and sampled, long and short: batches of every mixture. */
const requests = Array.from({ length: STREAMS }, (_, i) => ({
  messages: [
    {
      role: 'user',
      content: `Tell me a story about a ${animals[i % animals.length]} named ${['Milo', 'Luna', 'Pip', 'Zara'][Math.floor(i / animals.length)]}`,
    },
  ],
  temperature: i % 2 === 0 ? 0 : 0.9,
  seed: i,
  max_tokens: 40 + 5 * i,
  stream: true,
  stream_options: { include_usage: true },
}));

async function stream(body: unknown): Promise<Streamed> {
  const response = await edge.post('/v1/chat/completions', body);
  expect(response.status).toBe(200);
  let text = '';
  let usage: Streamed['usage'] | null = null;
  let last = '';
  for await (const data of sseData(response)) {
    last = data;
    if (data === '[DONE]') break;
    const chunk = JSON.parse(data);
    expect(chunk.error).toBeUndefined();
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  expect(last).toBe('[DONE]');
  return { requestId: response.headers.get('x-request-id')!, text, usage: usage! };
}

test(`${STREAMS} streams at once give the texts they give alone, and every ledger row equals its reported usage`, async () => {
  const alone: string[] = [];
  for (const request of requests) alone.push((await stream(request)).text);
  const together = await Promise.all(requests.map(stream));
  expect(together.map(({ text }) => text)).toEqual(alone);
  expect(new Set(alone).size).toBe(STREAMS);
  for (const { requestId, usage } of together) {
    const row = await edge.usageOf(requestId);
    expect(row).toMatchObject({
      prompt_tokens: usage.prompt_tokens,
      completion_tokens: usage.completion_tokens,
      cost_usd: usage.cost_usd,
      status: 'completed',
    });
  }
  const account = await (await fetch(`${edge.url}/v1/account`, { headers: edge.headers() })).json();
  expect(account.reserved_usd).toBe('0');
});
