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
  test('the stream goes on at another worker with the same text and the same probabilities', async () => {
    // The reference backend is slow enough to be caught in the act.
    const flags = ['--model-id', DEMO, '--served-model-name', 'killed-demo', '--backend', 'reference'];
    const victim = await edge.addWorker(flags);
    const story = { prompt: 'Once upon a time', max_tokens: 200, temperature: 0.8, seed: 11, ignore_eos: true };
    const body = { ...story, model: 'killed-demo', logprobs: 2, stop: ['no such text'] };
    const plain = await (await edge.post('/v1/completions', body)).json();
    const streamed = { ...body, stream: true, stream_options: { include_usage: true } };
    const response = await edge.post('/v1/completions', streamed);
    expect(response.status).toBe(200);
    let text = '';
    const logprobs: number[] = [];
    let usage: { completion_tokens: number } | null = null;
    let events = 0;
    let tokensAtDeath = 1000;
    let heir: Spawned | null = null;
    for await (const data of sseData(response)) {
      if (data === '[DONE]') continue;
      const event = JSON.parse(data);
      expect(event.error).toBeUndefined();
      text += event.choices[0]?.text ?? '';
      logprobs.push(...(event.choices[0]?.logprobs?.token_logprobs ?? []));
      usage = event.usage ?? usage;
      if (++events === 3) {
        await victim.end('SIGKILL');
        tokensAtDeath = logprobs.length;
        heir = await edge.addWorker(flags);
      }
    }
    await heir?.end('SIGTERM');
    expect(tokensAtDeath).toBeLessThan(100);
    expect(heir).not.toBeNull();
    expect(text).toBe(plain.choices[0].text);
    expect(logprobs).toEqual(plain.choices[0].logprobs.token_logprobs);
    expect(usage).toMatchObject({ completion_tokens: 200 });
    const row = await edge.usageOf(response.headers.get('x-request-id')!);
    expect(row).toMatchObject({ status: 'completed', completion_tokens: 200 });
    expect(row.prompt_tokens).toBe(plain.usage.prompt_tokens);
  }, 180_000);

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
