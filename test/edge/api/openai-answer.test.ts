/** What the OpenAI routes answer in one piece. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { TokenOut } from '../../../core/protocol.ts';
import {
  answered,
  errorOf,
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

const chat = { messages: [{ role: 'user', content: 'Hi' }] };
const CHAT = '/v1/chat/completions';
const COMPLETIONS = '/v1/completions';
afterEach(() => void vi.restoreAllMocks());

async function answer(path: string, body: object, steps: Step[]) {
  const response = await post(scripted({ steps }), path, body);
  expect(response.status).toBe(200);
  return response.json();
}

const usage = {
  prompt_tokens: 5,
  completion_tokens: 3,
  total_tokens: 8,
  prompt_tokens_details: { cached_tokens: 2 },
  cost_usd: 0.0000125,
};

describe('a whole answer', () => {
  it('on chat has the shape of OpenAI, with usage and cost', async () => {
    expect(await answer(CHAT, chat, answered('Hel', '', 'lo'))).toEqual({
      id: `chatcmpl-${JOB_ID}`,
      object: 'chat.completion',
      created: 1_700_000_000,
      model: MODEL_ID,
      system_fingerprint: 'nibble-wasm',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Hello', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage,
    });
  });

  it('on completions has the shape of OpenAI', async () => {
    expect(await answer(COMPLETIONS, { prompt: 'Hi' }, answered('Hello'))).toEqual({
      id: `cmpl-${JOB_ID}`,
      object: 'text_completion',
      created: 1_700_000_000,
      model: MODEL_ID,
      system_fingerprint: 'nibble-wasm',
      choices: [{ index: 0, text: 'Hello', logprobs: null, finish_reason: 'stop' }],
      usage,
    });
  });

  it('tells who answered, what it cost and what is left of the limits', async () => {
    const { headers } = await post(scripted(), CHAT, chat);
    expect(headers.get('x-request-id')).toBe(JOB_ID);
    expect(headers.get('x-nibble-backend')).toBe('wasm');
    expect(headers.get('x-nibble-cost-usd')).toBe('0.0000125');
    expect(headers.get('x-ratelimit-remaining-requests')).toBe('59');
  });

  it.each([
    ['eos', 'stop'],
    ['stop', 'stop'],
    ['length', 'length'],
  ] as const)('calls the end by %s "%s"', async (reason, finishReason) => {
    const steps = [started, tokens(0, 'a'), finished(reason)];
    expect(await answer(CHAT, chat, steps)).toMatchObject({ choices: [{ finish_reason: finishReason }] });
  });

  it('ends with the text that was held back, and skips waiting', async () => {
    const steps: Step[] = [
      { type: 'waiting' },
      started,
      { type: 'waiting' },
      tokens(0, 'a '),
      finished('length', 'EN'),
    ];
    expect(await answer(COMPLETIONS, { prompt: 'x' }, steps)).toMatchObject({ choices: [{ text: 'a EN' }] });
  });

  it('carries the client’s abort signal to the service', async () => {
    const service = scripted();
    const abort = new AbortController();
    const request = new Request('http://nibble/v1/chat/completions', {
      method: 'POST',
      headers: { authorization: 'Bearer nbl_test', 'content-type': 'application/json' },
      body: JSON.stringify(chat),
      signal: abort.signal,
    });
    await service.app.request(request);
    expect(service.signals[0]?.aborted).toBe(false);
    abort.abort();
    expect(service.signals[0]?.aborted).toBe(true);
  });
});

describe('logprobs', () => {
  const alternatives: TokenOut[] = [
    token(7, 'é', { logprob: -0.25, top: [token(7, 'é', { logprob: -0.25 }), token(8, 'e', { logprob: null })] }),
    token(2, '', { logprob: -1, special: true, top: [token(2, '', { logprob: -1 }), token(3, '', { logprob: -2 })] }),
  ];
  const steps: Step[] = [started, { type: 'tokens', from: 0, tokens: alternatives }, finished()];

  it('on chat have bytes and alternatives, one entry a token', async () => {
    const body = await answer(CHAT, { ...chat, logprobs: true, top_logprobs: 2 }, steps);
    expect(body).toMatchObject({
      choices: [
        {
          logprobs: {
            content: [
              {
                token: 'é',
                logprob: -0.25,
                bytes: [0xc3, 0xa9],
                top_logprobs: [
                  { token: 'é', logprob: -0.25, bytes: [0xc3, 0xa9] },
                  { token: 'e', logprob: -9999, bytes: [0x65] },
                ],
              },
              { token: '', logprob: -1, bytes: [] },
            ],
            refusal: null,
          },
        },
      ],
    });
  });

  it('on completions are parallel arrays; of alternatives with one text the likeliest stays', async () => {
    const body = await answer(COMPLETIONS, { prompt: 'x', logprobs: 2 }, steps);
    expect(body).toMatchObject({
      choices: [
        {
          logprobs: {
            tokens: ['é', ''],
            token_logprobs: [-0.25, -1],
            top_logprobs: [{ é: -0.25, e: -9999 }, { '': -1 }],
            text_offset: [0, 1],
          },
        },
      ],
    });
  });

  it('count offsets in code points', async () => {
    const body = await answer(COMPLETIONS, { prompt: 'x', logprobs: 0 }, answered('🙂', 'a', 'b'));
    expect(body).toMatchObject({ choices: [{ logprobs: { text_offset: [0, 1, 2], top_logprobs: null } }] });
  });
});

describe('a failure', () => {
  it.each([
    [{ code: 'context_exceeded', promptTokens: 9, maxNewTokens: 8, contextTokens: 16 }, 400, 'context_length_exceeded'],
    [{ code: 'budget_exceeded', of: 'credit', requiredPicoUsd: '2', availablePicoUsd: '1' }, 402, 'insufficient_quota'],
    [{ code: 'model_forbidden', model: 'm' }, 403, 'model_forbidden'],
    [{ code: 'queue_full', depth: 3, retryAfterS: 4 }, 429, 'queue_full'],
    [{ code: 'no_capacity', waitedMs: 5, retryAfterS: 4 }, 503, 'no_capacity'],
  ] as const)('at submission: %j', async (refusal, status, code) => {
    const error = await errorOf(await post(scripted({ refusal }), CHAT, chat));
    expect(error).toMatchObject({ status, code });
  });

  it('of the worker is a status, its reason in the log only', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    const steps = [started, tokens(0, 'a'), failed({ code: 'generation_failed', reason: 'device lost at 0x12' })];
    const response = await post(scripted({ steps }), CHAT, chat);
    const text = await response.clone().text();
    expect(await errorOf(response)).toMatchObject({ status: 500, code: 'generation_failed' });
    expect(text).not.toContain('0x12');
    expect(String(log.mock.calls[0]?.[0])).toBe(`${JOB_ID} generation_failed: device lost at 0x12`);
  });

  it.each([
    ['close early', [started, tokens(0, 'a')]],
    ['break', [started, { type: 'break' }]],
    ['lose a token', [started, tokens(0, 'a'), tokens(2, 'c'), finished()]],
  ] as [string, Step[]][])('is 500 when the events %s', async (_, steps) => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    expect(await errorOf(await post(scripted({ steps }), CHAT, chat))).toMatchObject({
      status: 500,
      code: 'answer_lost',
    });
  });

  it('is none when a re-attached job repeats tokens: they count once', async () => {
    const steps = [started, tokens(0, 'a', 'b'), tokens(1, 'b', 'c'), tokens(0, 'a'), finished()];
    expect(await answer(COMPLETIONS, { prompt: 'x' }, steps)).toMatchObject({ choices: [{ text: 'abc' }] });
  });
});
