/** OpenAI's own client gets what it expects. */
import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { answered, failed, JOB_ID, KEY, MODEL_ID, type Script, scripted, started, tokens } from './scripted-service.ts';

const messages = [{ role: 'user' as const, content: 'Hi' }];
beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

function client(script: Script = {}, apiKey = KEY, maxRetries = 0) {
  const service = scripted(script);
  const fetch = (url: string | URL | Request, init?: RequestInit) => Promise.resolve(service.app.request(url, init));
  const openai = new OpenAI({ apiKey, baseURL: 'http://nibble/v1', maxRetries, fetch });
  return { openai, service };
}

async function rejectionOf(promise: PromiseLike<unknown>): Promise<unknown> {
  return promise.then(
    () => null,
    (error: unknown) => error,
  );
}

describe('the openai client', () => {
  it('reads a chat answer', async () => {
    const { openai } = client({ steps: answered('Hel', 'lo') });
    const answer = await openai.chat.completions.create({ model: MODEL_ID, messages });
    expect(answer.choices[0]?.message.content).toBe('Hello');
    expect(answer.usage?.prompt_tokens_details?.cached_tokens).toBe(2);
    expect(answer._request_id).toBe(JOB_ID);
  });

  it('streams a chat with its usage', async () => {
    const { openai } = client({ steps: answered('Hel', 'lo') });
    const stream = await openai.chat.completions.create({
      model: MODEL_ID,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let totalTokens = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      totalTokens = chunk.usage?.total_tokens ?? totalTokens;
    }
    expect([text, totalTokens]).toEqual(['Hello', 8]);
  });

  it('repeats a request under the key that it was given', async () => {
    const { openai, service } = client({ refusal: { code: 'answer_lost', reason: 'x' } }, KEY, 1);
    const headers = { 'Idempotency-Key': 'story-1' };
    const error = await rejectionOf(openai.chat.completions.create({ model: MODEL_ID, messages }, { headers }));
    expect(error).toMatchObject({ status: 500, code: 'answer_lost' });
    expect(service.idempotencies).toHaveLength(2);
    expect(service.idempotencies[0]).toMatchObject({ key: 'story-1' });
    expect(service.idempotencies[1]).toEqual(service.idempotencies[0]);
  });

  it('assembles a stream into a completion', async () => {
    const { openai } = client({ steps: answered('Hel', 'lo') });
    const answer = await openai.chat.completions.stream({ model: MODEL_ID, messages }).finalChatCompletion();
    expect(answer.choices[0]).toMatchObject({ message: { content: 'Hello' }, finish_reason: 'stop' });
  });

  it('reads and streams a completion', async () => {
    const whole = await client().openai.completions.create({ model: MODEL_ID, prompt: 'x' });
    expect(whole.choices[0]?.text).toBe('Hello');
    const { openai } = client({ steps: answered('a', 'b') });
    let text = '';
    for await (const chunk of await openai.completions.create({ model: MODEL_ID, prompt: [1, 2], stream: true }))
      text += chunk.choices[0]?.text ?? '';
    expect(text).toBe('ab');
  });

  it('lists models and finds one whose id has a slash', async () => {
    const { openai } = client();
    expect((await openai.models.list()).data.map(({ id }) => id)).toEqual([MODEL_ID]);
    expect((await openai.models.retrieve(MODEL_ID)).id).toBe(MODEL_ID);
  });

  it('throws its own classes', async () => {
    const chat = (openai: OpenAI, more: object = {}) =>
      rejectionOf(openai.chat.completions.create({ model: MODEL_ID, messages, ...more }));
    expect(await chat(client({}, 'wrong').openai)).toBeInstanceOf(OpenAI.AuthenticationError);
    expect(await chat(client().openai, { model: 'none' })).toBeInstanceOf(OpenAI.NotFoundError);
    const bad = await chat(client().openai, { n: 2 });
    expect(bad).toBeInstanceOf(OpenAI.BadRequestError);
    expect(bad).toMatchObject({ param: 'n', code: 'unsupported_field', type: 'invalid_request_error' });
    const limited = client({ refusal: { code: 'rate_limited', limit: 'requests', retryAfterS: 1 } });
    expect(await chat(limited.openai)).toBeInstanceOf(OpenAI.RateLimitError);
    const full = client({ steps: [failed({ code: 'no_capacity', waitedMs: 1, retryAfterS: 1 })] });
    expect(await chat(full.openai, { stream: true })).toBeInstanceOf(OpenAI.InternalServerError);
  });

  it.each([
    ['fails', [started, tokens(0, 'a'), failed({ code: 'worker_lost', tokens: 1 })], 'worker_lost'],
    ['is cut', [started, tokens(0, 'a')], 'answer_lost'],
  ])('throws when a stream %s, after the text that came', async (_, steps, code) => {
    const { openai } = client({ steps });
    const stream = await openai.chat.completions.create({ model: MODEL_ID, messages, stream: true });
    let text = '';
    const read = async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    };
    const error = await rejectionOf(read());
    expect(error).toBeInstanceOf(OpenAI.APIError);
    expect(error).toMatchObject({ code });
    expect(text).toBe('a');
  });

  it('cancels the job when it stops reading', async () => {
    const { openai, service } = client({ steps: [started, tokens(0, 'a'), new Promise(() => {})] });
    const stream = await openai.chat.completions.create({ model: MODEL_ID, messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content === 'a') break;
    await vi.waitFor(() => expect(service.cancelled).toHaveLength(1));
  });
});
