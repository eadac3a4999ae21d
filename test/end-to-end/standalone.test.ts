/** Standalone: the same clients, streams and refusals as on the edge, against `nibble serve` alone. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { InferenceClient } from '@huggingface/inference';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DEMO, nibble } from './running-edge.ts';
import { KEY, RunningServer } from './running-server.ts';
import { sseData } from './sse.ts';

const MODEL = 'gptq-int4';
const question = { messages: [{ role: 'user' as const, content: 'What is Nibble?' }], temperature: 0 };
/** Some hundred tokens. */
const long = { prompt: 'Once upon a time', max_tokens: 480, temperature: 1, seed: 3, stream: true };

let server: RunningServer;
beforeAll(async () => {
  server = await RunningServer.start(['--api-key', KEY]);
});
afterAll(async () => {
  await server?.stop();
});

describe('the openai client, unchanged', () => {
  const client = () => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 });

  test('chats, and the stream gives the same text with usage at its end', async () => {
    const whole = await client().chat.completions.create({ model: MODEL, ...question });
    const text = whole.choices[0]!.message.content!;
    expect(text).toMatch(/Nibble/);
    let streamed = '';
    let usage: OpenAI.CompletionUsage | null | undefined = null;
    const stream = await client().chat.completions.create({
      model: MODEL,
      ...question,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    expect(streamed).toBe(text);
    expect(usage).toMatchObject({ prompt_tokens: whole.usage!.prompt_tokens, cost_usd: 0 });
    expect(usage!.completion_tokens).toBe(whole.usage!.completion_tokens);
  });

  test('completes, lists the model, and its errors are its own classes', async () => {
    const answer = await client().completions.create({ model: MODEL, prompt: 'Once upon', max_tokens: 9 });
    expect(answer.usage).toMatchObject({ completion_tokens: 9 });
    const ids: string[] = [];
    for await (const { id } of client().models.list()) ids.push(id);
    expect(ids).toEqual([MODEL]);
    await expect(client().chat.completions.create({ model: 'other', ...question })).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: `${KEY}x`, maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });
});

test('the @huggingface/inference client, unchanged', async () => {
  const inference = new InferenceClient(KEY, { endpointUrl: server.url });
  const { generated_text } = await inference.textGeneration({
    inputs: 'Once upon a time',
    parameters: { max_new_tokens: 30 },
  });
  expect(generated_text.length).toBeGreaterThan(20);
  const whole = await inference.chatCompletion({ ...question, max_tokens: 120 });
  let streamed = '';
  for await (const chunk of inference.chatCompletionStream({ ...question, max_tokens: 120 }))
    streamed += chunk.choices[0]?.delta.content ?? '';
  expect(streamed).toBe(whole.choices[0]!.message.content);
});

test('TGI’s routes answer as TGI does, and say what computed', async () => {
  const body = { inputs: 'Once upon a time', parameters: { max_new_tokens: 5, details: true } };
  const whole = await server.post('/generate', body);
  expect([whole.headers.get('x-nibble-backend'), whole.headers.get('x-compute-type')]).toEqual(['wasm', 'wasm']);
  const { generated_text, details } = await whole.json();
  expect(details).toMatchObject({ finish_reason: 'length', generated_tokens: 5 });
  const events: { generated_text: string | null }[] = [];
  for await (const data of sseData(await server.post('/generate_stream', body))) events.push(JSON.parse(data));
  expect(events).toHaveLength(5);
  expect(events.at(-1)!.generated_text).toBe(generated_text);
  const info = await (await server.get('/info')).json();
  expect(info).toMatchObject({ model_id: MODEL, max_concurrent_requests: 128, max_total_tokens: 512 });
});

describe('the key', () => {
  test('a wrong one, a prefix, one in other letters and none are all 401, on every route that has one', async () => {
    for (const key of [`${KEY}x`, KEY.slice(0, -1), KEY.toUpperCase(), ''])
      for (const path of ['/v1/models', '/info', '/metrics', '/v1/usage'])
        expect([key, path, (await server.get(path, key)).status]).toEqual([key, path, 401]);
    const bare = await fetch(`${server.url}/generate`, { method: 'POST', body: '{"inputs":"x"}' });
    expect([bare.status, (await bare.json()).error_type]).toEqual([401, 'authentication']);
  });

  test('health, docs and the OpenAPI document need none', async () => {
    for (const path of ['/health', '/', '/docs', '/openapi.json'])
      expect([path, (await fetch(`${server.url}${path}`)).status]).toEqual([path, 200]);
  });

  test('a server that was given none asks for none', async () => {
    const open = await RunningServer.start();
    try {
      expect((await fetch(`${open.url}/v1/models`)).status).toBe(200);
      expect((await open.post('/generate', { inputs: 'Once', parameters: { max_new_tokens: 2 } })).status).toBe(200);
    } finally {
      expect(await open.stop()).toBe(0);
    }
  });
});

describe('what it has not is refused by name', () => {
  test('usage and accounts need a ledger, and the OpenAPI document says so', async () => {
    const paths = ['/v1/usage', '/v1/usage.csv', '/v1/account', '/v1/organization/costs?start_time=1'];
    for (const path of paths) {
      const response = await server.get(path);
      expect([path, response.status, (await response.json()).error?.code]).toEqual([path, 404, 'ledger_missing']);
    }
    const document = await (await fetch(`${server.url}/openapi.json`)).json();
    expect(document.paths['/v1/usage'].get.responses['404'].description).toMatch(/ledger_missing/);
    expect(Object.keys(document.paths)).toEqual(expect.arrayContaining(['/info', '/metrics', '/generate']));
  });

  test('an Idempotency-Key is never silently ignored', async () => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${KEY}`, 'idempotency-key': 'once' };
    const response = await server.post('/v1/chat/completions', question, { headers });
    expect(response.status).toBe(400);
    expect((await response.json()).error.message).toMatch(/^Idempotency-Key is not supported without an edge/);
    const resumed = { ...headers, 'last-event-id': '3' };
    expect((await server.post('/generate_stream', { inputs: 'x' }, { headers: resumed })).status).toBe(422);
  });
});

describe('hostile bodies', () => {
  const raw = (path: string, body: string, type = 'application/json') =>
    fetch(`${server.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': type },
      body,
    });

  test.each(['/v1/chat/completions', '/v1/completions', '/generate', '/generate_stream', '/'])(
    '%s: each has its status and the server lives',
    async (path) => {
      expect((await raw(path, '{"messages": [')).status).toBe(400);
      expect((await raw(path, `"${'x'.repeat(3_000_000)}"`)).status).toBe(413);
      expect((await raw(path, 'inputs=x', 'application/x-www-form-urlencoded')).status).toBe(415);
      const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
      expect([400, 422]).toContain((await raw(path, deep)).status);
      for (const body of [
        'null',
        '[]',
        '"x"',
        '{"__proto__":{"inputs":"x"}}',
        '{"inputs":{"a":1},"prompt":{},"messages":{}}',
      ])
        expect([body, [400, 422].includes((await raw(path, body)).status)]).toEqual([body, true]);
      const control = '\\u0000\\ud800\\uffff';
      const odd = `{"inputs":"${control}","prompt":"${control}","messages":[{"role":"user","content":"${control}"}],"max_tokens":2,"parameters":{"max_new_tokens":2}}`;
      expect((await raw(path, odd)).status).toBe(200);
      expect((await fetch(`${server.url}/health`)).status).toBe(200);
    },
  );

  test('a body that never ends its declared length, and bytes that are no HTTP, take nothing down', async () => {
    const { port } = new URL(server.url);
    for (const bytes of [
      `POST /generate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${KEY}\r\ncontent-length: 100\r\n\r\n{"inputs"`,
      'GET /\u0000\u0001 HTTP/9.9\r\n\r\n\r\n',
    ]) {
      const socket = connect(Number(port), '127.0.0.1');
      socket.on('error', () => {});
      socket.write(bytes);
      await setTimeout(100);
      socket.destroy();
      await once(socket, 'close');
    }
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  });
});

test('32 streams at once give the texts they give alone', async () => {
  const requests = Array.from({ length: 32 }, (_, i) => ({
    messages: [{ role: 'user', content: `Tell me a story about a fox, number ${i}` }],
    temperature: i % 2 === 0 ? 0 : 0.9,
    seed: i,
    max_tokens: 20 + 3 * i,
    stream: true,
  }));
  const stream = async (body: unknown) => {
    let text = '';
    const datas: string[] = [];
    for await (const data of sseData(await server.post('/v1/chat/completions', body))) datas.push(data);
    expect(datas.pop()).toBe('[DONE]');
    for (const data of datas) text += JSON.parse(data).choices[0]?.delta?.content ?? '';
    return text;
  };
  const alone: string[] = [];
  for (const request of requests) alone.push(await stream(request));
  expect(await Promise.all(requests.map(stream))).toEqual(alone);
});

describe('a client that leaves', () => {
  test.each([true, false])('stops the work on its request within a step (stream: %s)', async (stream) => {
    const dropped = 'tgi_request_failure{err="dropped"}';
    const before = (await server.metric(dropped)) ?? 0;
    const abort = new AbortController();
    const asked = server.post('/v1/completions', { ...long, stream }, { signal: abort.signal });
    if (stream) await (await asked).body!.getReader().read();
    else while ((await server.metric('tgi_batch_current_size')) === 0) await setTimeout(5);
    abort.abort();
    await asked.catch(() => undefined);
    while (((await server.metric(dropped)) ?? 0) === before) await setTimeout(5);
    expect(await server.metric('tgi_batch_current_size')).toBe(0);
  });
});

describe('limits', () => {
  test('one request more than --max-concurrent-requests is a 429, and a place that is free again is given', async () => {
    const small = await RunningServer.start(['--max-concurrent-requests', '2', '--max-batch-size', '1']);
    try {
      const abort = new AbortController();
      const running = [1, 2].map((seed) => small.post('/v1/completions', { ...long, seed }, { signal: abort.signal }));
      await Promise.all(running);
      expect([await small.metric('tgi_batch_current_size'), await small.metric('tgi_queue_size')]).toEqual([1, 1]);
      const refused = await small.post('/generate', { inputs: 'x' });
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
      expect(await refused.json()).toEqual({ error: 'Model is overloaded', error_type: 'overloaded' });
      expect(await small.metric('tgi_request_failure{err="overloaded"}')).toBe(1);
      abort.abort();
      while ((await small.post('/generate', { inputs: 'x', parameters: { max_new_tokens: 1 } })).status === 429)
        await setTimeout(20);
    } finally {
      await small.stop('SIGKILL');
    }
  });

  test('--max-input-tokens and --max-total-tokens are held in TGI’s words', async () => {
    const small = await RunningServer.start(['--max-input-tokens', '8', '--max-total-tokens', '12']);
    try {
      const words = (count: number) => Array.from({ length: count }, () => 'fox').join(' ');
      const tooLong = await small.post('/generate', { inputs: words(30), parameters: { max_new_tokens: 1 } });
      expect([tooLong.status, (await tooLong.json()).error]).toEqual([
        422,
        expect.stringMatching(/^Input validation error: `inputs` must have less than 8 tokens. Given: \d+$/),
      ]);
      const tooMany = await small.post('/generate', { inputs: 'Once upon a', parameters: { max_new_tokens: 11 } });
      expect((await tooMany.json()).error).toMatch(/`inputs` tokens \+ `max_new_tokens` must be <= 12/);
      expect(await (await small.get('/info')).json()).toMatchObject({ max_input_tokens: 8, max_total_tokens: 12 });
      expect(await small.metric('tgi_request_failure{err="validation"}')).toBe(2);
    } finally {
      await small.stop('SIGKILL');
    }
  });
});

describe('SIGTERM', () => {
  test('in mid-stream: the stream ends whole, new connections are refused, the exit code is 0', async () => {
    const textOf = (datas: string[]) => datas.map((data) => JSON.parse(data).choices[0].text).join('');
    const undisturbed: string[] = [];
    for await (const data of sseData(await server.post('/v1/completions', long))) undisturbed.push(data);
    const draining = await RunningServer.start();
    const datas: string[] = [];
    let exited: Promise<number | null> | null = null;
    for await (const data of sseData(await draining.post('/v1/completions', long))) {
      datas.push(data);
      if (datas.length !== 3) continue;
      exited = draining.stop();
      await draining.process.printed(/draining: 1 requests/, 5000);
      await expect(fetch(`${draining.url}/health`)).rejects.toThrow('fetch failed');
    }
    expect([datas.pop(), undisturbed.pop()]).toEqual(['[DONE]', '[DONE]']);
    expect(textOf(datas)).toBe(textOf(undisturbed));
    expect(datas.length).toBeGreaterThan(50);
    expect(await exited).toBe(0);
  });

  test('past --graceful-termination-timeout the stream ends with an error that says why', async () => {
    const draining = await RunningServer.start(['--graceful-termination-timeout', '0']);
    const datas: string[] = [];
    let exited: Promise<number | null> | null = null;
    for await (const data of sseData(await draining.post('/v1/completions', long))) {
      datas.push(data);
      if (datas.length === 3) exited = draining.stop();
    }
    expect(JSON.parse(datas.at(-1)!).error).toMatchObject({ code: 'unavailable', message: 'The server is stopping.' });
    expect(await exited).toBe(0);
  });
});

describe('the command line', () => {
  test('what does not go together is refused with exit code 2', async () => {
    const refused = async (...args: string[]) => {
      const { code, stderr } = await nibble(['serve', '--model-id', DEMO, ...args]);
      return [code, stderr.trim()];
    };
    expect(await refused('--token', 'nbl_x')).toEqual([2, 'nibble serve: --token is for an edge; --edge is missing']);
    expect(await refused('--edge', 'http://localhost:1', '--token', 'x', '--port', '80')).toEqual([
      2,
      'nibble serve: --port is for serving without an edge; --edge is given',
    ]);
    expect(await refused('--max-input-tokens', '9', '--max-total-tokens', '9')).toEqual([
      2,
      'nibble serve: --max-input-tokens is 9; it must be less than --max-total-tokens, 9',
    ]);
    expect(await refused('--trust-remote-code')).toEqual([2, 'nibble serve: --trust-remote-code is not supported yet']);
  });

  test('a taken port is said by number', async () => {
    const port = new URL(server.url).port;
    const second = await nibble(['serve', '--model-id', DEMO, '--hostname', '127.0.0.1', '--port', port]);
    expect(second.stderr).toMatch(
      new RegExp(`cannot listen on 127.0.0.1 port ${port}: the port is taken by another program`),
    );
    expect(second.code).toBe(2);
  });

  test('TGI’s variables stand in for flags', async () => {
    const other = await RunningServer.start([], { API_KEY: KEY, MAX_CONCURRENT_REQUESTS: '7' });
    try {
      expect((await fetch(`${other.url}/info`)).status).toBe(401);
      expect(await (await other.get('/info')).json()).toMatchObject({ max_concurrent_requests: 7 });
    } finally {
      await other.stop('SIGKILL');
    }
  });
});
