import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DEMO, RunningEdge, type Spawned } from './running-edge.ts';
import { sseData } from './sse.ts';

let edge: RunningEdge;
beforeAll(async () => {
  edge = await RunningEdge.start();
});
afterAll(async () => {
  await edge?.stop();
});

const chat = { messages: [{ role: 'user', content: 'Hello' }] };

describe('what is wrong with a request gets its own code', () => {
  test('a wrong key is 401, whatever is wrong with it', async () => {
    const flipped = edge.apiKey.slice(0, 30) + (edge.apiKey[30] === 'a' ? 'b' : 'a') + edge.apiKey.slice(31);
    for (const key of ['', 'nbl_', 'sk-123', flipped, edge.adminKey, edge.apiKey.toUpperCase()]) {
      const response = await edge.post('/v1/chat/completions', chat, { headers: edge.headers(key) });
      expect([key, response.status]).toEqual([key, 401]);
      expect((await response.json()).error).toMatchObject({ code: 'invalid_api_key' });
    }
  });

  test('a worker’s token may not ask, a client’s key may not link', async () => {
    expect((await edge.post('/v1/chat/completions', chat, { headers: edge.headers(edge.workerToken) })).status).toBe(
      403,
    );
    expect((await fetch(`${edge.url}/link?model=${edge.models[0]}&shard=0`, { headers: edge.headers() })).status).toBe(
      403,
    );
  });

  test.each(['/v1/chat/completions', '/v1/completions', '/generate', '/generate_stream'])(
    '%s: malformed JSON is 400, an oversized body 413',
    async (path) => {
      expect(
        (await fetch(`${edge.url}${path}`, { method: 'POST', headers: edge.headers(), body: '{"messages": [' })).status,
      ).toBe(400);
      expect(
        (
          await fetch(`${edge.url}${path}`, {
            method: 'POST',
            headers: edge.headers(),
            body: `"${'x'.repeat(3_000_000)}"`,
          })
        ).status,
      ).toBe(413);
    },
  );

  test('an unknown model and an unknown route are 404', async () => {
    expect((await edge.post('/v1/chat/completions', { ...chat, model: 'nobody/nothing' })).status).toBe(404);
    expect((await edge.post('/v1/nothing', chat)).status).toBe(404);
  });

  test('a prompt beyond the context is 400 and costs nothing', async () => {
    const response = await edge.post('/v1/completions', { prompt: 'fox '.repeat(5000), max_tokens: 10 });
    expect(response.status).toBe(400);
    expect((await response.json()).error.code).toBe('context_length_exceeded');
  });
});

describe('a worker killed in mid-stream', () => {
  let slow: Spawned;
  beforeAll(async () => {
    // The reference backend is slow enough to be caught in the act.
    slow = await edge.addWorker(['--model-id', DEMO, '--served-model-name', 'slow-demo', '--backend', 'reference']);
  });
  afterAll(async () => {
    await slow?.end('SIGKILL');
  });

  test('ends the stream with an error event, bills what was accepted, and the next request works', async () => {
    const response = await edge.post('/v1/completions', {
      model: 'slow-demo',
      prompt: 'Once upon a time',
      max_tokens: 400,
      temperature: 0,
      ignore_eos: true,
      stream: true,
    });
    expect(response.status).toBe(200);
    const events: string[] = [];
    for await (const data of sseData(response)) {
      events.push(data);
      if (events.length === 3) await slow.end('SIGKILL');
    }
    const error = JSON.parse(events.find((event) => event.includes('"error"'))!).error;
    expect(error.code).toBe('worker_lost');
    expect(events.at(-1)).toContain('worker_lost');

    const row = await edge.usageOf(response.headers.get('x-request-id')!);
    expect(row.status).toBe('failed');
    expect(row.completion_tokens).toBeGreaterThanOrEqual(3);
    expect(row.completion_tokens).toBeLessThan(400);
    expect(row.cost_usd).toBeGreaterThan(0);

    const next = await edge.addWorker(['--model-id', DEMO, '--served-model-name', 'slow-demo']);
    try {
      const answer = await edge.post('/v1/completions', {
        model: 'slow-demo',
        prompt: 'Once upon a time',
        max_tokens: 20,
        temperature: 0,
      });
      expect(answer.status).toBe(200);
      expect((await answer.json()).usage.completion_tokens).toBe(20);
    } finally {
      await next.end('SIGTERM');
    }
  });

  test('a client that leaves in mid-stream is billed for the tokens until then, and the worker stops', async () => {
    const worker = await edge.addWorker([
      '--model-id',
      DEMO,
      '--served-model-name',
      'left-demo',
      '--backend',
      'reference',
    ]);
    const left = new AbortController();
    const body = {
      model: 'left-demo',
      prompt: 'Once upon a time',
      max_tokens: 480,
      temperature: 0,
      ignore_eos: true,
      stream: true,
    };
    const response = await edge.post('/v1/completions', body, { signal: left.signal });
    let events = 0;
    try {
      for await (const _ of sseData(response)) if (++events === 3) left.abort();
    } catch (error) {
      expect((error as Error).name).toBe('AbortError');
    }
    const row = await edge.usageOf(response.headers.get('x-request-id')!);
    expect(row.status).toBe('cancelled');
    expect(row.completion_tokens).toBeGreaterThanOrEqual(3);
    expect(row.completion_tokens).toBeLessThan(480);
    // Free again at once: the next answer does not wait for 480 tokens.
    const next = await edge.post('/v1/completions', { ...body, max_tokens: 3, stream: false });
    expect((await next.json()).usage.completion_tokens).toBe(3);
    await worker.end('SIGTERM');
  });

  test('SIGTERM drains: the stream that runs ends whole', async () => {
    const worker = await edge.addWorker([
      '--model-id',
      DEMO,
      '--served-model-name',
      'draining-demo',
      '--backend',
      'reference',
    ]);
    const response = await edge.post('/v1/completions', {
      model: 'draining-demo',
      prompt: 'Once upon a time',
      max_tokens: 60,
      temperature: 0,
      ignore_eos: true,
      stream: true,
    });
    const events: string[] = [];
    let ended: Promise<number | null> | null = null;
    for await (const data of sseData(response)) {
      events.push(data);
      if (events.length === 3) ended = worker.end('SIGTERM');
    }
    expect(events.at(-1)).toBe('[DONE]');
    expect(await ended).toBe(0);
    expect((await edge.usageOf(response.headers.get('x-request-id')!)).completion_tokens).toBe(60);
  });
});
