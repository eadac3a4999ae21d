/** What the TGI routes answer and stream. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  answered,
  eventsOf,
  failed,
  finished,
  JOB_ID,
  post,
  type Step,
  scripted,
  started,
  token,
  tokens,
} from './scripted-service.ts';

const EOS = token(2, '', { logprob: -0.25, special: true });
const toEos: Step[] = [
  started,
  { type: 'tokens', from: 0, tokens: [token(10, ' a'), token(11, ' b'), EOS] },
  finished(),
];
beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

async function answer(path: string, body: object, steps: Step[] = toEos) {
  const response = await post(scripted({ steps }), path, body);
  expect(response.status).toBe(200);
  return response.json();
}

describe('/generate', () => {
  it('answers with the text alone', async () => {
    expect(await answer('/generate', { inputs: 'Hi' })).toEqual({ generated_text: ' a b' });
  });

  it('has the details where asked; the seed is null when greedy', async () => {
    const body = { inputs: 'Hi', parameters: { details: true } };
    expect(await answer('/generate', body)).toEqual({
      generated_text: ' a b',
      details: {
        finish_reason: 'eos_token',
        generated_tokens: 3,
        seed: null,
        prefill: [],
        tokens: [
          { id: 10, text: ' a', logprob: -0.5, special: false },
          { id: 11, text: ' b', logprob: -0.5, special: false },
          { id: 2, text: '', logprob: -0.25, special: true },
        ],
      },
    });
  });

  it('names the seed that it sampled with, sent or drawn', async () => {
    const sent = await answer('/generate', { inputs: 'Hi', parameters: { details: true, do_sample: true, seed: 7 } });
    expect(sent).toMatchObject({ details: { seed: 7 } });
    const service = scripted({ steps: toEos });
    const drawn = await post(service, '/generate', { inputs: 'Hi', parameters: { details: true, temperature: 0.5 } });
    expect(await drawn.json()).toMatchObject({ details: { seed: service.requests[0]?.sampling.seed } });
  });

  it('calls an end of sequence on the last token asked for a length, as TGI does', async () => {
    const parameters = { details: true, max_new_tokens: 3 };
    expect(await answer('/generate', { inputs: 'Hi', parameters })).toMatchObject({
      details: { finish_reason: 'length', generated_tokens: 3 },
    });
  });

  it('takes decoder_input_details for details, with an empty prefill', async () => {
    const body = { inputs: 'Hi', parameters: { decoder_input_details: true } };
    expect(await answer('/generate', body)).toMatchObject({ details: { prefill: [], tokens: [{}, {}, {}] } });
  });

  it.each([
    ['eos', 'eos_token'],
    ['length', 'length'],
    ['stop', 'stop_sequence'],
  ] as const)('calls the end by %s "%s"', async (reason, name) => {
    const steps = [started, tokens(0, 'a'), finished(reason)];
    const body = { inputs: 'Hi', parameters: { details: true } };
    expect(await answer('/generate', body, steps)).toMatchObject({ details: { finish_reason: name } });
  });

  it('puts the prompt before the text where asked', async () => {
    const body = { inputs: 'Hi', parameters: { return_full_text: true } };
    expect(await answer('/generate', body)).toEqual({ generated_text: 'Hi a b' });
  });

  it('has alternatives where asked', async () => {
    const top = [token(10, ' a'), token(12, ' c', { logprob: -2 })];
    const steps: Step[] = [started, { type: 'tokens', from: 0, tokens: [token(10, ' a', { top })] }, finished()];
    const body = { inputs: 'Hi', parameters: { details: true, top_n_tokens: 2 } };
    expect(await answer('/generate', body, steps)).toMatchObject({
      details: {
        top_tokens: [
          [
            { id: 10, text: ' a', logprob: -0.5, special: false },
            { id: 12, text: ' c', logprob: -2, special: false },
          ],
        ],
      },
    });
  });

  it('has TGI’s headers and ours', async () => {
    const { headers } = await post(scripted({ steps: toEos }), '/generate', { inputs: 'Hé🙂' });
    const values = Object.fromEntries(headers);
    expect(values).toMatchObject({
      'x-request-id': JOB_ID,
      'x-prompt-tokens': '5',
      'x-generated-tokens': '3',
      'x-compute-type': 'wasm',
      'x-compute-characters': '3',
      'x-nibble-backend': 'wasm',
      'x-nibble-cost-usd': '0.0000125',
      'x-ratelimit-limit-requests': '60',
    });
    for (const name of ['x-total-time', 'x-validation-time', 'x-queue-time', 'x-inference-time', 'x-time-per-token'])
      expect(values[name]).toMatch(/^\d+$/);
    expect(values['x-compute-time']).toMatch(/^\d+(\.\d+)?$/);
  });
});

describe('POST /', () => {
  it('answers with an array, and with the full text unless told not to', async () => {
    expect(await answer('/', { inputs: 'Hi' })).toEqual([{ generated_text: 'Hi a b' }]);
    const body = { inputs: 'Hi', parameters: { return_full_text: false }, stream: false };
    expect(await answer('/', body)).toEqual([{ generated_text: ' a b' }]);
  });

  it('streams where asked', async () => {
    const response = await post(scripted({ steps: toEos }), '/', { inputs: 'Hi', stream: true });
    const { data } = await eventsOf(response);
    expect(data).toHaveLength(3);
    expect(data[2].generated_text).toBe('Hi a b');
  });
});

describe('/generate_stream', () => {
  const stream = async (steps: Step[], parameters: object = {}) => {
    const response = await post(scripted({ steps }), '/generate_stream', { inputs: 'Hi', parameters });
    return { response, ...(await eventsOf(response)) };
  };

  it('is an event a token from index 1; the last has the whole text', async () => {
    const { response, data } = await stream(toEos);
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(response.headers.get('x-compute-type')).toBe('wasm');
    expect(response.headers.get('x-compute-characters')).toBe('2');
    expect(response.headers.get('x-accel-buffering')).toBe('no');
    const event = (index: number, id: number, text: string) => ({
      index,
      token: { id, text, logprob: -0.5, special: false },
      generated_text: null,
      details: null,
    });
    expect(data).toEqual([
      event(1, 10, ' a'),
      event(2, 11, ' b'),
      {
        index: 3,
        token: { id: 2, text: '', logprob: -0.25, special: true },
        generated_text: ' a b',
        details: null,
        nibble: { backend: 'wasm', cost_usd: 0.0000125 },
      },
    ]);
  });

  it('has the details in the last event where asked', async () => {
    const { data } = await stream(toEos, { details: true, do_sample: true, seed: 3, top_n_tokens: 1 });
    expect(data.at(-1)).toMatchObject({
      details: { finish_reason: 'eos_token', generated_tokens: 3, seed: 3, input_length: 5 },
    });
    for (const event of data) expect(event.top_tokens).toEqual([]);
  });

  it('has texts that join to the whole, with what was held back', async () => {
    const { data } = await stream([started, tokens(0, 'a', '', 'b'), tokens(3, 'c'), finished('length', ' EN')]);
    expect(data.map((event) => event.token.text).join('')).toBe('abc EN');
    expect(data.at(-1).generated_text).toBe('abc EN');
    expect(data.map((event) => event.index)).toEqual([1, 2, 3, 4]);
  });

  it('waits with comments', async () => {
    const { comments, data } = await stream([started, { type: 'waiting' }, ...answered('a').slice(1)]);
    expect(comments).toEqual([': waiting']);
    expect(data).toHaveLength(1);
  });

  it('ends with an error event after the tokens that came', async () => {
    const { response, data } = await stream([
      started,
      tokens(0, 'a', 'b'),
      failed({ code: 'generation_failed', reason: 'device lost' }),
    ]);
    expect(response.status).toBe(200);
    expect(data.slice(0, 2).map((event) => event.token.text)).toEqual(['a', 'b']);
    expect(data.slice(2)).toEqual([
      { error: 'Request failed during generation: The model failed on this request.', error_type: 'generation' },
    ]);
  });

  it.each([
    ['close early', [started, tokens(0, 'a')]],
    ['break', [started, tokens(0, 'a'), { type: 'break' }]],
    ['finish without a token', [started, finished()]],
  ] as [string, Step[]][])('is an incomplete generation when its events %s', async (_, steps) => {
    const { data } = await stream(steps);
    expect(data.at(-1)).toEqual({
      error: expect.stringMatching(/^Incomplete generation stream: .*Whether it was billed is not known/),
      error_type: 'incomplete_generation_stream',
    });
  });

  it('passes a leaving client on as a cancel', async () => {
    const service = scripted({ steps: [started, tokens(0, 'a', 'b'), new Promise(() => {})] });
    const reader = (await post(service, '/generate_stream', { inputs: 'Hi' })).body!.getReader();
    await reader.read();
    await reader.cancel('gone');
    expect(service.cancelled).toEqual(['gone']);
  });
});

describe('a failure', () => {
  it.each([
    [{ code: 'rate_limited', limit: 'requests', retryAfterS: 3 }, 429, 'overloaded', 'Model is overloaded'],
    [{ code: 'queue_full', depth: 3, retryAfterS: 3 }, 429, 'overloaded', 'Model is overloaded'],
    [
      { code: 'generation_failed', reason: 'device lost' },
      424,
      'generation',
      'Request failed during generation: The model failed on this request.',
    ],
    [
      { code: 'worker_lost', tokens: 3 },
      424,
      'generation',
      'Request failed during generation: The worker was lost in the middle of the answer.',
    ],
    [
      { code: 'no_capacity', waitedMs: 3, retryAfterS: 3 },
      503,
      'no_capacity',
      'No worker for this model took the request in time.',
    ],
    [{ code: 'model_forbidden', model: 'm' }, 403, 'model_forbidden', 'This key may not use the model "m".'],
  ] as const)('%j has TGI’s status and type, at submission and before the first token', async (failure, ...wanted) => {
    for (const script of [{ refusal: failure }, { steps: [failed(failure)] }])
      for (const path of ['/generate', '/generate_stream']) {
        const response = await post(scripted(script), path, { inputs: 'Hi' });
        const body = (await response.json()) as { error: string; error_type: string };
        expect([response.status, body.error_type, body.error]).toEqual(wanted);
        expect(response.headers.get('retry-after')).toBe(
          'retryAfterS' in failure ? '3' : failure.code === 'worker_lost' ? '1' : null,
        );
      }
  });

  it('is an incomplete generation when the events stop', async () => {
    const response = await post(scripted({ steps: [started] }), '/generate', { inputs: 'Hi' });
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({
      error: expect.stringMatching(/^Incomplete generation: .*Whether it was billed is not known/),
      error_type: 'incomplete_generation',
    });
  });
});
