/** What the OpenAI routes stream, and how a stream ends. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  answered,
  errorOf,
  eventsOf,
  failed,
  finished,
  JOB_ID,
  MODEL_ID,
  post,
  type Step,
  scripted,
  started,
  token,
  tokens,
} from './scripted-service.ts';

const CHAT = '/v1/chat/completions';
const chat = { messages: [{ role: 'user', content: 'Hi' }], stream: true };
const withUsage = { ...chat, stream_options: { include_usage: true } };
const usage = {
  prompt_tokens: 5,
  completion_tokens: 3,
  total_tokens: 8,
  prompt_tokens_details: { cached_tokens: 2 },
  cost_usd: 0.0000125,
};
beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => {}));
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('a chat stream', () => {
  it('is the role, a chunk a token, the reason, and [DONE]', async () => {
    const response = await post(scripted({ steps: answered('Hel', '', 'lo') }), CHAT, chat);
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(response.headers.get('cache-control')).toBe('no-cache');
    expect(response.headers.get('x-accel-buffering')).toBe('no');
    expect(response.headers.get('x-request-id')).toBe(JOB_ID);
    expect(response.headers.get('x-nibble-backend')).toBe('wasm');
    const chunk = (delta: object, finish_reason: string | null = null) => ({
      id: `chatcmpl-${JOB_ID}`,
      object: 'chat.completion.chunk',
      created: 1_700_000_000,
      model: MODEL_ID,
      system_fingerprint: 'nibble-wasm',
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    });
    expect((await eventsOf(response)).data).toEqual([
      chunk({ role: 'assistant', content: '' }),
      chunk({ content: 'Hel' }),
      chunk({ content: 'lo' }),
      chunk({}, 'stop'),
      '[DONE]',
    ]);
  });

  it('has usage, cost and backend in one more chunk where asked, and usage: null in the others', async () => {
    const { data } = await eventsOf(await post(scripted({ steps: answered('a', 'b') }), CHAT, withUsage));
    expect(data.at(-1)).toBe('[DONE]');
    expect(data.at(-2)).toMatchObject({ choices: [], usage, nibble: { backend: 'wasm' } });
    for (const chunk of data.slice(0, -2)) expect(chunk.usage).toBeNull();
  });

  it('gives the text that was held back before the reason', async () => {
    const { data } = await eventsOf(
      await post(scripted({ steps: [started, tokens(0, 'a'), finished('length', ' EN')] }), CHAT, chat),
    );
    expect(data.slice(-3, -1)).toMatchObject([
      { choices: [{ delta: { content: ' EN' }, finish_reason: null }] },
      { choices: [{ delta: {}, finish_reason: 'length' }] },
    ]);
  });

  it('has a chunk for every token where logprobs are asked for, also without text', async () => {
    const steps: Step[] = [started, { type: 'tokens', from: 0, tokens: [token(1, ''), token(2, 'é')] }, finished()];
    const { data } = await eventsOf(await post(scripted({ steps }), CHAT, { ...chat, logprobs: true }));
    const logprobs = data.slice(1, 3).map((chunk) => chunk.choices[0].logprobs.content[0].token);
    expect(logprobs).toEqual(['', 'é']);
  });
});

it('a completion stream is a chunk a token with its offset, the reason, and [DONE]', async () => {
  const body = { prompt: 'x', stream: true, logprobs: 0 };
  const { data } = await eventsOf(await post(scripted({ steps: answered('🙂', 'b') }), '/v1/completions', body));
  expect(data.map((chunk) => chunk.choices?.[0] ?? chunk)).toMatchObject([
    { index: 0, text: '🙂', finish_reason: null, logprobs: { text_offset: [0] } },
    { index: 0, text: 'b', finish_reason: null, logprobs: { text_offset: [1] } },
    { index: 0, text: '', finish_reason: 'stop', logprobs: null },
    '[DONE]',
  ]);
});

describe('a stream that fails', () => {
  it.each([
    [[failed({ code: 'no_capacity', waitedMs: 1, retryAfterS: 3 })], 503, 'no_capacity'],
    [[{ type: 'waiting' }, failed({ code: 'queue_full', depth: 1, retryAfterS: 3 })], 429, 'queue_full'],
    [[], 500, 'answer_lost'],
    [[{ type: 'break' }], 500, 'answer_lost'],
  ] as [Step[], number, string][])('before its first token is a status: %#', async (steps, status, code) => {
    expect(await errorOf(await post(scripted({ steps }), CHAT, chat))).toMatchObject({ status, code });
  });

  it('later ends with one error event that has the usage, and nothing after it', async () => {
    const steps = [started, tokens(0, 'a'), failed({ code: 'worker_lost', tokens: 1 })];
    const response = await post(scripted({ steps }), CHAT, withUsage);
    expect(response.status).toBe(200);
    expect((await eventsOf(response)).data.at(-1)).toEqual({
      error: {
        message: 'The worker was lost in the middle of the answer.',
        type: 'server_error',
        param: null,
        code: 'worker_lost',
        usage,
      },
    });
  });

  it.each([
    ['close early', [started, tokens(0, 'a')]],
    ['break', [started, tokens(0, 'a'), { type: 'break' }]],
    ['lose a token', [started, tokens(0, 'a'), tokens(2, 'c'), finished()]],
  ] as [string, Step[]][])('because its events %s ends with an error event', async (_, steps) => {
    const service = scripted({ steps });
    const { data } = await eventsOf(await post(service, CHAT, chat));
    expect(data.at(-1)).toMatchObject({
      error: {
        code: 'answer_lost',
        message: expect.stringContaining('Whether it was billed is not known'),
        usage: null,
      },
    });
    expect(data.filter((chunk) => chunk.choices?.[0].delta.content === 'c')).toEqual([]);
    expect(console.error).toHaveBeenCalledOnce();
  });

  it('because an event cannot be written ends with an error event and cancels the job', async () => {
    const broken = {
      ...finished(),
      usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 1, costPicoUsd: 0.5 },
    };
    const service = scripted({ steps: [started, tokens(0, 'a'), broken as Step] });
    const { data } = await eventsOf(await post(service, CHAT, withUsage));
    expect(data.at(-1)).toMatchObject({ error: { code: 'answer_lost' } });
    expect(service.cancelled).toHaveLength(1);
  });
});

describe('a stream that waits', () => {
  it('has comments once it runs', async () => {
    const steps: Step[] = [started, { type: 'waiting' }, tokens(0, 'a'), finished()];
    const { comments, data } = await eventsOf(await post(scripted({ steps }), CHAT, chat));
    expect(comments).toEqual([': waiting']);
    expect(data.at(-1)).toBe('[DONE]');
  });

  it('holds its headers back for the lease', async () => {
    vi.useFakeTimers();
    let lease = () => {};
    const leased = new Promise<void>((resolve) => {
      lease = resolve;
    });
    let answeredAt: number | null = null;
    const response = post(scripted({ steps: [{ type: 'waiting' }, leased, ...answered('a')] }), CHAT, chat);
    void response.then(() => {
      answeredAt = Date.now();
    });
    await vi.advanceTimersByTimeAsync(9_000);
    expect(answeredAt).toBeNull();
    lease();
    await vi.advanceTimersByTimeAsync(0);
    expect(answeredAt).not.toBeNull();
    expect((await eventsOf(await response)).comments).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('holds them at most 10 s; a failure is then an event', async () => {
    vi.useFakeTimers();
    let expire = () => {};
    const expired = new Promise<void>((resolve) => {
      expire = resolve;
    });
    const refusal = failed({ code: 'no_capacity', waitedMs: 30_000, retryAfterS: 3 });
    const pending = post(scripted({ steps: [{ type: 'waiting' }, expired, refusal] }), CHAT, chat);
    await vi.advanceTimersByTimeAsync(10_000);
    const response = await pending;
    expect(response.status).toBe(200);
    const events = eventsOf(response);
    expire();
    expect(await events).toMatchObject({ comments: [': waiting'], data: [{ error: { code: 'no_capacity' } }] });
  });

  it('loses nothing that comes after the headers', async () => {
    vi.useFakeTimers();
    let lease = () => {};
    const leased = new Promise<void>((resolve) => {
      lease = resolve;
    });
    const pending = post(scripted({ steps: [leased, ...answered('a', 'b')] }), CHAT, chat);
    await vi.advanceTimersByTimeAsync(10_000);
    const events = eventsOf(await pending);
    lease();
    const text = (await events).data.map((chunk) => chunk.choices?.[0].delta.content ?? '').join('');
    expect(text).toBe('ab');
  });
});

describe('a client', () => {
  const many = [started, ...Array.from({ length: 50 }, (_, at) => tokens(at, `${at} `)), finished()];

  it('that leaves cancels the job', async () => {
    const service = scripted({ steps: many });
    const reader = (await post(service, CHAT, chat)).body!.getReader();
    await reader.read();
    await reader.cancel('gone');
    expect(service.cancelled).toEqual(['gone']);
  });

  it('that leaves while the stream waits cancels the job and logs nothing', async () => {
    const service = scripted({ steps: [started, new Promise(() => {})] });
    const reader = (await post(service, CHAT, chat)).body!.getReader();
    await reader.read();
    const waiting = reader.read();
    await reader.cancel('gone');
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(service.cancelled).toEqual(['gone']);
    expect(console.error).not.toHaveBeenCalled();
  });

  it('that reads slowly is not read ahead for', async () => {
    const service = scripted({ steps: many });
    const reader = (await post(service, CHAT, chat)).body!.getReader();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(service.numEmitted()).toBeLessThan(6);
    await reader.cancel();
  });
});
