/** TGI's validation, row by row in its order and words, and the job of a body that passes. */
import { describe, expect, it } from 'vitest';
import { type Json, MODEL_ID, post, scripted } from './scripted-service.ts';

type Refused = { status: number; error: string; error_type: string };

async function refusal(path: string, body: object): Promise<Refused> {
  const service = scripted();
  const response = await post(service, path, body);
  expect(service.requests).toEqual([]);
  return { status: response.status, ...((await response.json()) as Omit<Refused, 'status'>) };
}
const ruleOf = async (parameters: object, path = '/generate', inputs = 'Hi') => {
  const { status, error, error_type } = await refusal(path, { inputs, parameters });
  expect([status, error_type]).toEqual([422, 'validation']);
  return error.replace('Input validation error: ', '');
};
async function jobOf(body: object) {
  const service = scripted();
  const response = await post(service, '/generate', body);
  expect([response.status, response.status === 200 ? null : await response.text()]).toEqual([200, null]);
  return service.requests[0]!;
}

/** In TGI's order. Rows 1 and 10 (best_of > 1 without sampling, or with a seed) come after "not allowed" and cannot be reached with one best_of. */
const ROWS: [object, string][] = [
  [{ best_of: 2 }, '`best_of` != 1 is not allowed for this endpoint'],
  [{ best_of: 0 }, '`best_of` != 1 is not allowed for this endpoint'],
  [{ temperature: 0 }, '`temperature` must be strictly positive'],
  [{ temperature: -1 }, '`temperature` must be strictly positive'],
  [{ repetition_penalty: 0 }, '`repetition_penalty` must be strictly positive'],
  [{ frequency_penalty: 2.1 }, '`frequency_penalty` must be >= -2.0 and <= 2.0'],
  [{ frequency_penalty: -2.1 }, '`frequency_penalty` must be >= -2.0 and <= 2.0'],
  [{ top_p: 0 }, '`top_p` must be > 0.0 and < 1.0'],
  [{ top_p: 1 }, '`top_p` must be > 0.0 and < 1.0'],
  [{ typical_p: 1 }, '`typical_p` must be > 0.0 and < 1.0'],
  [{ top_k: 0 }, '`top_k` must be strictly positive'],
  [{ top_k: -1 }, '`top_k` must be strictly positive'],
  [{ max_new_tokens: 0 }, '`max_new_tokens` must be strictly positive'],
  [{ stop: ['a', 'b', 'c', 'd', 'e'] }, '`stop` supports up to 4 stop sequences. Given: 5'],
  [{ top_n_tokens: 6 }, '`top_n_tokens` must be >= 0 and <= 5. Given: 6'],
  [{ truncate: 0 }, '`truncate` must be strictly positive and less than 2047. Given: 0'],
  [{ truncate: 2048 }, '`truncate` must be strictly positive and less than 2047. Given: 2048'],
  [{ grammar: { type: 'regex', value: 'a' } }, 'grammar is not supported'],
];

describe('TGI’s rules', () => {
  it.each(ROWS)('%j', async (parameters, rule) => {
    expect(await ruleOf(parameters)).toBe(rule);
  });

  it('are checked in TGI’s order', async () => {
    for (const [at, [parameters, rule]] of ROWS.entries()) {
      // Later rows do not repeat a field of this one, so that both are broken at once.
      const later = ROWS.slice(at + 1).map(([other]) => other);
      expect(await ruleOf(Object.assign({}, ...later.reverse(), parameters))).toBe(rule);
    }
  });

  it('refuse an empty input after the parameters and before truncate', async () => {
    expect(await ruleOf({}, '/generate', '')).toBe('`inputs` cannot be empty');
    expect(await ruleOf({ truncate: 0 }, '/generate', '')).toBe('`inputs` cannot be empty');
    expect(await ruleOf({ top_n_tokens: 6 }, '/generate', '')).toMatch('top_n_tokens');
  });

  it.each(['/generate_stream', '/'])('are 422 before a stream opens on %s', async (path) => {
    const body = (parameters: object) => ({ inputs: 'Hi', stream: true, parameters });
    expect(await refusal(path, body({ best_of: 2 }))).toEqual({
      status: 422,
      error: 'Input validation error: `best_of` != 1 is not supported when streaming tokens',
      error_type: 'validation',
    });
    expect((await refusal(path, body({ decoder_input_details: true }))).error).toBe(
      'Input validation error: `decoder_input_details` == true is not supported when streaming tokens',
    );
  });

  it.each([
    [
      { code: 'context_exceeded', promptTokens: 9, maxNewTokens: 8, contextTokens: 16 },
      '`inputs` tokens + `max_new_tokens` must be <= 16. Given: 9 `inputs` tokens and 8 `max_new_tokens`',
    ],
    [
      { code: 'context_exceeded', promptTokens: 16, maxNewTokens: 1, contextTokens: 16 },
      '`inputs` must have less than 16 tokens. Given: 16',
    ],
  ] as const)('of the lengths come from whoever counts the tokens: %j', async (failure, rule) => {
    const response = await post(scripted({ refusal: failure }), '/generate', { inputs: 'Hi' });
    expect(response.status).toBe(422);
    expect(await response.json()).toEqual({ error: `Input validation error: ${rule}`, error_type: 'validation' });
  });

  it.each([
    [{}, 'inputs'],
    [{ inputs: ['a'] }, 'inputs'],
    [{ inputs: 'a', parameters: { temperature: 'hot' } }, 'parameters.temperature'],
    [{ inputs: 'a', parameters: { stop: 'END' } }, 'parameters.stop'],
    [{ inputs: 'a', parameters: { max_new_tokens: -1 } }, 'parameters.max_new_tokens'],
    [{ inputs: 'a', parameters: { seed: 0.5 } }, 'parameters.seed'],
    [{ inputs: 'a', parameters: [] }, 'parameters'],
  ])('of the types name the field: %j', async (body, param) => {
    const { status, error, error_type } = await refusal('/generate', body);
    expect([status, error_type]).toEqual([422, 'validation']);
    expect(error).toContain(`Input validation error: ${param}: `);
  });
});

describe('what TGI does and this server not yet', () => {
  it.each([
    [{ typical_p: 0.9 }, 'typical_p'],
    [{ repetition_penalty: 1.2 }, 'repetition_penalty'],
    [{ frequency_penalty: 0.5 }, 'frequency_penalty'],
    [{ watermark: true }, 'watermark'],
    [{ adapter_id: 'a' }, 'adapter_id'],
  ])('%j is named', async (parameters, field) => {
    expect(await ruleOf(parameters)).toBe(`\`${field}\` is not supported yet`);
  });

  it('bounds stop sequences', async () => {
    for (const stop of ['', 'x'.repeat(301)])
      expect(await ruleOf({ stop: [stop] })).toBe('`stop` sequences must have 1 to 300 characters');
  });

  it('sends no stream on /generate', async () => {
    expect((await refusal('/generate', { inputs: 'a', stream: true })).error).toContain('use /generate_stream');
  });

  it.each([
    { repetition_penalty: 1, frequency_penalty: 0, watermark: false },
    { adapter_id: null, grammar: null, typical_p: null, best_of: 1, top_n_tokens: 0 },
    { an_unknown_field: 3 },
  ])('accepts %j, which asks for nothing', async (parameters) => {
    await jobOf({ inputs: 'Hi', parameters });
  });
});

describe('a TGI job', () => {
  it('samples where there are no parameters, as TGI does', async () => {
    expect(await jobOf({ inputs: 'Hi' })).toEqual({
      model: null,
      input: { kind: 'text', text: 'Hi', specialTokens: 'add' },
      sampling: { temperature: 1, topK: 0, topP: 1, seed: expect.any(Number) },
      maxNewTokens: null,
      truncatePromptTokens: null,
      stop: [],
      stopText: 'keep',
      eos: 'stop',
      topLogprobs: 0,
    });
  });

  it('is greedy where there are parameters without do_sample', async () => {
    for (const parameters of [{}, { max_new_tokens: 5 }, { do_sample: false }, { seed: 3 }])
      expect((await jobOf({ inputs: 'Hi', parameters })).sampling.temperature).toBe(0);
  });

  it.each([
    [{ do_sample: true }, { temperature: 1, topK: 0, topP: 1 }],
    [{ temperature: 0.5 }, { temperature: 0.5, topK: 0, topP: 1 }],
    [{ top_k: 10 }, { temperature: 1, topK: 10, topP: 1 }],
    [{ top_p: 0.99 }, { temperature: 1, topK: 0, topP: 0.99 }],
    [
      { temperature: 3, top_k: 1, top_p: 0.1, seed: 4 },
      { temperature: 3, topK: 1, topP: 0.1, seed: 4 },
    ],
  ])('samples by %j', async (parameters, sampling) => {
    expect((await jobOf({ inputs: 'Hi', parameters })).sampling).toMatchObject(sampling);
  });

  it('takes every parameter that is done', async () => {
    const parameters = { max_new_tokens: 10, truncate: 2047, stop: ['a', 'b', 'c', 'd'], top_n_tokens: 5 };
    expect(await jobOf({ inputs: 'Hi', parameters, model: MODEL_ID })).toMatchObject({
      model: MODEL_ID,
      maxNewTokens: 10,
      truncatePromptTokens: 2047,
      stop: ['a', 'b', 'c', 'd'],
      topLogprobs: 5,
    });
  });

  it('is 404 for an unknown model, also where truncate asks for its limit', async () => {
    for (const parameters of [{}, { truncate: 3 }]) {
      const response = await post(scripted(), '/generate', { inputs: 'Hi', parameters, model: 'none' });
      expect(response.status).toBe(404);
      expect(((await response.json()) as Json).error_type).toBe('model_not_found');
    }
  });
});
