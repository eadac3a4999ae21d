/** What the OpenAI routes make of a body: a job, or a refusal that names the field. */
import { describe, expect, it } from 'vitest';
import { errorOf, MODEL_ID, post, scripted } from './scripted-service.ts';

const CHAT = '/v1/chat/completions';
const COMPLETIONS = '/v1/completions';
const messages = [{ role: 'user', content: 'Hi' }];

async function jobOf(path: string, body: object) {
  const service = scripted();
  const response = await post(service, path, body);
  expect([response.status, response.status === 200 ? null : await response.text()]).toEqual([200, null]);
  return service.requests[0]!;
}
const chatJob = (more: object = {}) => jobOf(CHAT, { messages, ...more });
const completionJob = (more: object = {}) => jobOf(COMPLETIONS, { prompt: 'Hi', ...more });

async function refusal(path: string, body: object) {
  const service = scripted();
  const error = await errorOf(await post(service, path, body));
  expect(service.requests).toEqual([]);
  return error;
}

describe('a chat job', () => {
  it('has the defaults of OpenAI', async () => {
    expect(await chatJob()).toEqual({
      model: null,
      input: { kind: 'chat', messages },
      sampling: { temperature: null, topK: null, topP: null, seed: expect.any(Number) },
      maxNewTokens: null,
      truncatePromptTokens: null,
      stop: [],
      stopText: 'drop',
      eos: 'stop',
      topLogprobs: 0,
    });
  });

  it('takes every field that is done', async () => {
    const job = await chatJob({
      model: MODEL_ID,
      max_tokens: 7,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      seed: 42,
      stop: 'END',
      logprobs: true,
      top_logprobs: 3,
      ignore_eos: true,
    });
    expect(job).toEqual({
      model: MODEL_ID,
      input: { kind: 'chat', messages },
      sampling: { temperature: 0.5, topK: 40, topP: 0.9, seed: 42 },
      maxNewTokens: 7,
      truncatePromptTokens: null,
      stop: ['END'],
      stopText: 'drop',
      eos: 'ignore',
      topLogprobs: 3,
    });
  });

  it('joins text parts and knows the roles', async () => {
    const job = await chatJob({
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
        { role: 'assistant', content: 'c', refusal: null, annotations: [], tool_calls: [] },
      ],
    });
    expect(job.input).toEqual({
      kind: 'chat',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'ab' },
        { role: 'assistant', content: 'c' },
      ],
    });
  });

  it.each([
    [{ max_completion_tokens: 9 }, 9],
    [{ max_completion_tokens: 9, max_tokens: 9 }, 9],
    [{ max_tokens: null }, null],
  ])('bounds the answer by %j', async (fields, maxNewTokens) => {
    expect((await chatJob(fields)).maxNewTokens).toBe(maxNewTokens);
  });

  it.each([
    [{ temperature: 0 }, { temperature: 0, topP: 1 }],
    [{ top_p: 0 }, { temperature: 0, topP: 1 }],
    [{ top_p: 1 }, { temperature: null, topP: 1 }],
    [
      { temperature: 0, top_p: 0.5 },
      { temperature: 0, topP: 1 },
    ],
    [{ top_k: -1 }, { topK: 0 }],
    [{ do_sample: false }, { temperature: 0 }],
    [{ do_sample: true }, { temperature: null }],
    [{ do_sample: false, temperature: 0.7 }, { temperature: 0.7 }],
  ])('samples by %j', async (fields, sampling) => {
    expect((await chatJob(fields)).sampling).toMatchObject(sampling);
  });

  it('draws a seed of 53 bits where none is sent, another each time', async () => {
    const seeds = await Promise.all(Array.from({ length: 20 }, async () => (await chatJob()).sampling.seed));
    expect(new Set(seeds).size).toBe(20);
    for (const seed of seeds) expect(Number.isSafeInteger(seed) && seed >= 0).toBe(true);
    expect(Math.max(...seeds)).toBeGreaterThan(2 ** 32);
  });

  it.each([null, '', 'tgi', 'http://localhost:8787', 'https://nibble.example/v1'])(
    'goes to the default model for model: %j',
    async (model) => {
      expect((await chatJob({ model })).model).toBeNull();
    },
  );

  it.each(['org/none', 'qwen:7b', 'httpx'])('is 404 for the unknown model %s', async (model) => {
    const response = await post(scripted(), CHAT, { messages, model });
    expect(await errorOf(response)).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' });
  });

  it.each([
    { n: 1 },
    { frequency_penalty: 0, presence_penalty: 0 },
    { tools: [], tool_choice: 'none', parallel_tool_calls: true },
    { response_format: { type: 'text' } },
    { store: false, metadata: { a: 'b' }, user: 'me', service_tier: 'auto' },
    { logit_bias: {}, modalities: ['text'], functions: [] },
    { tools: null, n: null, audio: null, response_format: null },
    { some_field_of_a_client: 3 },
  ])('accepts %j, which asks for nothing', async (fields) => {
    await chatJob(fields);
  });
});

describe('a completion job', () => {
  it('has the defaults of OpenAI', async () => {
    expect(await completionJob()).toMatchObject({
      input: { kind: 'text', text: 'Hi', specialTokens: 'add' },
      maxNewTokens: 16,
      stopText: 'drop',
    });
  });

  it.each([
    ['Hi', { kind: 'text', text: 'Hi', specialTokens: 'add' }],
    [['Hi'], { kind: 'text', text: 'Hi', specialTokens: 'add' }],
    [[1, 403], { kind: 'ids', ids: [1, 403] }],
    [[[1, 403]], { kind: 'ids', ids: [1, 403] }],
  ])('reads the prompt %j', async (prompt, input) => {
    expect((await completionJob({ prompt })).input).toEqual(input);
  });

  it.each([
    [['a', 'b']],
    [
      [
        [1, 2],
        [3, 4],
      ],
    ],
  ])('refuses the several prompts %j', async (prompt) => {
    expect(await refusal(COMPLETIONS, { prompt })).toMatchObject({ code: 'unsupported_field', param: 'prompt' });
  });

  it.each(['', [], [[]], [''], ['a', 1], [1.5], [-1], [2 ** 24 + 1], null, undefined, 7])(
    'is 400 for the prompt %j',
    async (prompt) => {
      expect(await refusal(COMPLETIONS, { prompt })).toMatchObject({
        status: 400,
        param: expect.stringMatching(/^prompt/),
      });
    },
  );

  it.each([
    [{ logprobs: 0 }, 0],
    [{ logprobs: 5 }, 5],
  ])('takes %j', async (fields, topLogprobs) => {
    expect((await completionJob(fields)).topLogprobs).toBe(topLogprobs);
  });

  it.each([
    { echo: false, best_of: 1, suffix: null },
    { return_full_text: false, repetition_penalty: 1 },
  ])('accepts %j, which asks for nothing', async (fields) => {
    await completionJob(fields);
  });
});

describe('fields that are not done yet', () => {
  it.each([
    ['tools', [{ type: 'function', function: { name: 'f' } }]],
    ['tool_choice', 'required'],
    ['functions', [{ name: 'f' }]],
    ['response_format', { type: 'json_object' }],
    ['response_format', 'text'],
    ['n', 2],
    ['logit_bias', { 5: -100 }],
    ['frequency_penalty', 0.1],
    ['presence_penalty', -1],
    ['audio', { voice: 'x' }],
    ['modalities', ['text', 'audio']],
    ['web_search_options', {}],
    ['prediction', { type: 'content' }],
    ['reasoning_effort', 'high'],
    ['store', true],
    ['min_p', 0.1],
    ['repetition_penalty', 1.2],
    ['guided_json', {}],
    ['typical_p', 0.9],
    ['truncate', 3],
  ])('on chat: %s %j is 400 and named', async (name, value) => {
    const error = await refusal(CHAT, { messages, [name]: value });
    expect(error).toMatchObject({ status: 400, code: 'unsupported_field', param: name });
    expect(error.message).toContain(`${name} is not supported yet`);
  });

  it.each([
    ['suffix', 'x'],
    ['echo', true],
    ['best_of', 2],
    ['n', 3],
    ['logit_bias', { 5: 1 }],
    ['return_full_text', true],
    ['watermark', true],
  ])('on completions: %s %j is 400 and named', async (name, value) => {
    expect(await refusal(COMPLETIONS, { prompt: 'Hi', [name]: value })).toMatchObject({
      status: 400,
      code: 'unsupported_field',
      param: name,
    });
  });

  it.each([
    [{ role: 'tool', content: 'x', tool_call_id: 'a' }, 'messages[0].role'],
    [{ role: 'assistant', content: null, tool_calls: [{ id: 'a' }] }, 'messages[0].tool_calls'],
    [{ role: 'user', content: 'x', name: 'Ann' }, 'messages[0].name'],
    [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }, 'messages[0].content[0].type'],
  ])('in a message: %j', async (message, param) => {
    expect(await refusal(CHAT, { messages: [message] })).toMatchObject({ code: 'unsupported_field', param });
  });

  it.each(['include_obfuscation', 'continuous_usage_stats'])('in stream_options: %s', async (name) => {
    const error = await refusal(CHAT, { messages, stream: true, stream_options: { [name]: true } });
    expect(error).toMatchObject({ code: 'unsupported_field', param: `stream_options.${name}` });
  });
});

describe('fields out of bounds', () => {
  it.each([
    [{ temperature: 2.1 }, 'temperature'],
    [{ temperature: -0.1 }, 'temperature'],
    [{ temperature: '1' }, 'temperature'],
    [{ top_p: 1.1 }, 'top_p'],
    [{ top_k: -2 }, 'top_k'],
    [{ seed: -1 }, 'seed'],
    [{ seed: 1.5 }, 'seed'],
    [{ seed: 2 ** 53 }, 'seed'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: 5, max_completion_tokens: 6 }, 'max_tokens'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ stop: '' }, 'stop'],
    [{ stop: 'x'.repeat(301) }, 'stop'],
    [{ top_logprobs: 2 }, 'top_logprobs'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ stream_options: { include_usage: true } }, 'stream_options'],
    [{ model: 'x'.repeat(201) }, 'model'],
    [{ messages: [] }, 'messages'],
    [{ messages: Array(2049).fill(messages[0]) }, 'messages'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
    [{ messages: [{ role: 'user', content: 3 }] }, 'messages[0].content'],
    [{ messages: [{ role: 'user', content: [{ type: 'text' }] }] }, 'messages[0].content[0].text'],
    [{ messages: undefined }, 'messages'],
  ])('%j is 400', async (fields, param) => {
    expect(await refusal(CHAT, { messages, ...fields })).toMatchObject({
      status: 400,
      type: 'invalid_request_error',
      code: 'invalid_request',
      param,
      message: expect.stringContaining(param),
    });
  });
});
