/** Retries, with real workers over real connections: a client that is cut off at any place and comes back has the undisturbed text, billed once. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RunningEdge } from './running-edge.ts';

let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start();
});
afterAll(async () => {
  await edge?.stop();
});

interface SseEvent {
  id: string | null;
  data: string;
}

/** The events of a stream, at most so many: then the connection is cut. */
async function eventsOf(response: Response, cut: () => void, most = Number.POSITIVE_INFINITY): Promise<SseEvent[]> {
  const decoder = new TextDecoder();
  const events: SseEvent[] = [];
  let buffered = '';
  try {
    for await (const bytes of response.body!) {
      buffered += decoder.decode(bytes, { stream: true });
      const parts = buffered.split('\n\n');
      buffered = parts.pop()!;
      for (const part of parts) {
        const match = /^(?:id: (\d+)\n)?data: ?(.*)$/.exec(part);
        if (match !== null) events.push({ id: match[1] ?? null, data: match[2]! });
        if (events.length === most) return events;
      }
    }
  } finally {
    cut();
  }
  return events;
}

async function ask(path: string, body: object, key: string | null, lastEventId: string | null, most?: number) {
  const client = new AbortController();
  const headers = {
    ...edge.headers(),
    ...(key !== null && { 'idempotency-key': key }),
    ...(lastEventId !== null && { 'last-event-id': lastEventId }),
  };
  const response = await edge.post(path, body, { headers, signal: client.signal });
  expect(response.status).toBe(200);
  const requestId = response.headers.get('x-request-id')!;
  return { requestId, events: await eventsOf(response, () => client.abort(), most) };
}

const text = (events: readonly SseEvent[]) =>
  events
    .filter(({ data }) => data.startsWith('{'))
    .map(({ data }) => JSON.parse(data))
    .map((event) => event.token?.text ?? event.choices?.[0]?.delta?.content ?? event.choices?.[0]?.text ?? '')
    .join('');

const SAMPLED = { temperature: 1.2, seed: 7 };
test.each<[string, object]>([
  [
    '/v1/chat/completions',
    { ...SAMPLED, max_tokens: 60, messages: [{ role: 'user', content: 'A story of Milo' }], stream: true },
  ],
  ['/v1/completions', { ...SAMPLED, max_tokens: 60, prompt: 'Once upon a time', logprobs: 2, stream: true }],
  ['/generate_stream', { inputs: 'Once upon a time', parameters: { max_new_tokens: 60, temperature: 1.2, seed: 7 } }],
])('%s: cut off again and again, at every place', async (path, body) => {
  const whole = await ask(path, body, null, null);
  expect(text(whole.events).length).toBeGreaterThan(100);
  for (const step of [1, 7]) {
    const key = `${path}-by-${step}`;
    const had: SseEvent[] = [];
    let requestId = '';
    let lastEventId: string | null = null;
    for (let tries = 0; tries < 100; tries++) {
      // The first connections are cut while the answer is generated, the later ones while it is replayed.
      const got = await ask(path, body, key, lastEventId, step);
      had.push(...got.events);
      lastEventId = got.events.findLast(({ id }) => id !== null)?.id ?? lastEventId;
      if (requestId !== '') expect(got.requestId).toBe(requestId);
      requestId = got.requestId;
      // What has no id comes again with every try, until a client reads as far as the end.
      if (got.events.length < step || got.events.every(({ id }) => id === null)) break;
    }
    expect(text(had)).toBe(text(whole.events));
    const ids = had.filter(({ id }) => id !== null).map(({ id }) => Number(id));
    expect(ids).toEqual([...new Set(ids)].sort((left, right) => left - right));
    expect(await edge.usageOf(requestId)).toMatchObject({ status: 'completed' });
  }
});

test('a client that leaves for good still has its answer made, whole, under its key', async () => {
  const body = { ...SAMPLED, max_tokens: 60, prompt: 'Once upon a time', stream: true };
  const left = await ask('/v1/completions', body, 'left', null, 2);
  const row = await edge.usageOf(left.requestId);
  expect(row).toMatchObject({ status: 'completed' });
  const unkeyed = await ask('/v1/completions', body, null, null);
  expect(row.completion_tokens).toBe((await edge.usageOf(unkeyed.requestId)).completion_tokens);
});
