/** Retries: what the surfaces make of Idempotency-Key and Last-Event-ID, and that a resumed stream is the rest of the first one, wherever it was cut. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { JobEvent } from '../../../edge/api/service.ts';
import {
  errorOf,
  eventsOf,
  failed,
  finished,
  JOB_ID,
  type Json,
  post,
  type Script,
  scripted,
  started,
  token,
  tokens,
} from './scripted-service.ts';

beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

const SURFACES = [
  ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }] }],
  ['/v1/completions', { prompt: 'Hi' }],
  ['/generate', { inputs: 'Hi' }],
  ['/', { inputs: 'Hi' }],
] as const;

describe.each(SURFACES)('on %s', (path, body) => {
  it.each(['', 'a b', 'é', 'a'.repeat(256), 'a, b', 'tab\tbed'])('the Idempotency-Key %j is 400', async (key) => {
    const service = scripted();
    const response = await post(service, path, body, { 'idempotency-key': encodeBytes(key) });
    expect(response.status).toBe(400);
    expect(JSON.stringify(await response.json())).toContain('Idempotency-Key: must be 1 to 255 visible ASCII');
    expect(service.requests).toEqual([]);
  });

  it('a key of 255 characters goes to the service with the hash of the request, and no key as none', async () => {
    const service = scripted();
    const key = '!~'.repeat(127).concat('x');
    await post(service, path, body, { 'idempotency-key': key });
    await post(service, path, body);
    const bodyHash = expect.stringMatching(/^[0-9a-f]{64}$/);
    expect(service.idempotencies).toEqual([{ key, bodyHash, ifNew: 'run' }, null]);
  });

  it('the hash tells requests apart, and not the order or the spaces of their JSON', async () => {
    const service = scripted();
    const same = [
      JSON.stringify({ ...body, seed_of_test: { a: 1, b: [1, 2] }, z: 1 }),
      `{ "z": 1.0, ${JSON.stringify(body).slice(1, -1)}, "seed_of_test": {"b": [1,2],"a":1} }`,
    ];
    const others = [{ ...body, z: 1 }, { ...body, seed_of_test: { a: 1, b: [2, 1] }, z: 1 }, body];
    for (const each of [...same, ...others]) await post(service, path, each, { 'idempotency-key': 'k' });
    const hashes = service.idempotencies.map((idempotency) => idempotency?.bodyHash);
    expect(hashes).toHaveLength(5);
    expect(hashes[0]).toBe(hashes[1]);
    expect(new Set(hashes).size).toBe(4);
  });

  it('what was replayed says so', async () => {
    const header = async (script: Script) =>
      (await post(scripted(script), path, body, { 'idempotency-key': 'k' })).headers.get('idempotent-replayed');
    expect([await header({}), await header({ replayed: true })]).toEqual([null, 'true']);
  });

  it.each([
    ['idempotency_conflict', 409],
    ['idempotency_pending', 409],
    ['answer_gone', 410],
  ] as const)('%s has its status and its sentence', async (code, status) => {
    const refusal = { code, retryAfterS: 3, ran: true } as NonNullable<Script['refusal']>;
    const response = await post(scripted({ refusal }), path, body, { 'idempotency-key': 'k' });
    expect(response.status).toBe(status);
    expect(response.headers.get('retry-after')).toBe(code === 'idempotency_pending' ? '3' : null);
    const answer = (await response.json()) as Json;
    const [text, name] = path.startsWith('/v1/')
      ? [answer.error.message, answer.error.code]
      : [answer.error, answer.error_type];
    expect([text, name]).toEqual([expect.stringContaining('Idempotency-Key'), code]);
  });

  it('Last-Event-ID is 400 on an answer in one piece, and without a key', async () => {
    for (const key of [{}, { 'idempotency-key': 'k' }]) {
      const service = scripted();
      const response = await post(service, path, body, { ...key, 'last-event-id': '1' });
      expect(response.status).toBe(400);
      expect(JSON.stringify(await response.json())).toContain('Last-Event-ID: only with');
      expect(service.requests).toEqual([]);
    }
  });
});

it('tries under one key draw with one seed, and other keys with others', async () => {
  const service = scripted();
  for (const key of ['a', 'a', 'b', null])
    await post(service, '/generate', { inputs: 'Hi' }, key === null ? {} : { 'idempotency-key': key });
  const seeds = service.requests.map(({ sampling }) => sampling.seed);
  expect(seeds[0]).toBe(seeds[1]);
  expect(new Set(seeds).size).toBe(3);
  for (const seed of seeds) expect(Number.isSafeInteger(seed) && seed >= 0).toBe(true);
});

it('a key on a body that is nested beyond reason is 400, not a stack overflow', async () => {
  const body = `{"prompt":"x","metadata":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
  const error = await errorOf(await post(scripted(), '/v1/completions', body, { 'idempotency-key': 'k' }));
  expect(error).toMatchObject({ status: 400, message: expect.stringContaining('nested deeper than 64') });
});

/** With tokens that bring no text, text held back to the end, and events of several tokens. */
const ANSWER: JobEvent[] = [
  started,
  tokens(0, 'Hel', '', 'lo'),
  { type: 'tokens', from: 3, tokens: [token(3, ' 🙂'), token(4, ''), token(5, 'end')] },
];
const ENDS: [string, JobEvent][] = [
  ['finishes', finished('length')],
  ['finishes with text that was held back', finished('length', ' of it')],
  ['fails', failed({ code: 'generation_failed', reason: 'x' })],
];
const STREAMS: [string, string, object][] = [
  ['/v1/chat/completions', 'a chat', { messages: [{ role: 'user', content: 'Hi' }], stream: true }],
  [
    '/v1/chat/completions',
    'a chat with logprobs and usage',
    {
      messages: [{ role: 'user', content: 'Hi' }],
      stream: true,
      logprobs: true,
      stream_options: { include_usage: true },
    },
  ],
  ['/v1/completions', 'a completion', { prompt: 'Hi', stream: true }],
  ['/v1/completions', 'a completion with logprobs', { prompt: 'Hi', stream: true, logprobs: 0 }],
  ['/generate_stream', 'a TGI stream', { inputs: 'Hi', parameters: { details: true, seed: 1 } }],
  ['/', 'a stream of the TGI root', { inputs: 'Hi', stream: true }],
];

describe.each(STREAMS)('%s: %s', (path, _, body) => {
  it.each(ENDS)('that %s: the events after any cut are those of the undisturbed stream', async (_, end) => {
    const run = async (lastEventId: string | null) => {
      const headers = { 'idempotency-key': 'k', ...(lastEventId !== null && { 'last-event-id': lastEventId }) };
      return eventsOf(await post(scripted({ steps: [...ANSWER, end] }), path, body, headers));
    };
    const whole = await run(null);
    expect(whole.data.length).toBeGreaterThan(4);
    const numbers = whole.ids.filter((id) => id !== null).map(Number);
    expect(numbers.length).toBeGreaterThan(3);
    expect(numbers).toEqual([...new Set(numbers)].sort((left, right) => left - right));
    for (let cut = 0; cut < whole.data.length; cut++) {
      // As a client keeps it: the last id that it saw. Events without one come again.
      const lastAt = whole.ids.slice(0, cut).findLastIndex((id) => id !== null);
      const resumed = await run(lastAt < 0 ? null : whole.ids[lastAt]!);
      expect(resumed.data, `after ${cut} events`).toEqual(whole.data.slice(lastAt + 1));
    }
  });

  it('an id is how many tokens of the answer were said', async () => {
    const steps = [...ANSWER, finished('length', ' of it')];
    const { data, ids } = await eventsOf(await post(scripted({ steps }), path, body));
    const lastText = data.findLastIndex((event) => textOf(event) !== '');
    const said = ids.slice(0, lastText + 1).filter((id) => id !== '0');
    const tgi = path === '/' || path === '/generate_stream';
    const everyToken = tgi || 'logprobs' in body;
    const ofTokens = everyToken ? ['1', '2', '3', '4', '5', '6'] : ['1', '3', '4', '6'];
    expect(said).toEqual(tgi ? ofTokens : [...ofTokens, '7']);
    expect(ids.slice(lastText + 1).every((id) => id === null)).toBe(true);
  });

  it.each(['x', '-1', '1.5', '', '12345678', '1e3', ' '])('the Last-Event-ID %j is 400', async (id) => {
    const service = scripted();
    const response = await post(service, path, body, { 'idempotency-key': 'k', 'last-event-id': id });
    expect([response.status, service.requests]).toEqual([400, []]);
    expect(JSON.stringify(await response.json())).toContain('Last-Event-ID');
  });

  it('an id beyond the end of the answer is told so, and nothing is passed off as its rest', async () => {
    const headers = { 'idempotency-key': 'k', 'last-event-id': '8' };
    const { data } = await eventsOf(await post(scripted({ steps: [...ANSWER, finished()] }), path, body, headers));
    expect(data).toHaveLength(1);
    expect(JSON.stringify(data[0].error)).toContain('8 is not an id of this answer, which has 6 tokens');
  });

  it('only an answer that there is is resumed: the service may not begin one', async () => {
    const service = scripted();
    await post(service, path, body, { 'idempotency-key': 'k', 'last-event-id': '0' });
    expect(service.idempotencies).toMatchObject([{ key: 'k', ifNew: 'refuse' }]);
  });
});

it('a resumed stream has the id and the time of the first', async () => {
  const [path, , body] = STREAMS[0]!;
  const headers = { 'idempotency-key': 'k', 'last-event-id': '3' };
  const response = await post(scripted({ steps: [...ANSWER, finished()], replayed: true }), path, body, headers);
  expect(response.headers.get('idempotent-replayed')).toBe('true');
  const { data } = await eventsOf(response);
  expect(data[0]).toMatchObject({ id: `chatcmpl-${JOB_ID}`, created: 1_700_000_000 });
  expect(data.map(textOf).join('')).toBe(' 🙂end');
});

/** What of the answer's text an event of any surface brings. */
function textOf(event: Json): string {
  if (event === '[DONE]' || event.error !== undefined) return '';
  if (event.token !== undefined) return event.token.text || '(empty)';
  const choice = event.choices[0];
  if (choice === undefined || choice.finish_reason !== null) return '';
  const text = choice.text ?? choice.delta.content ?? '';
  return text === '' && choice.logprobs !== null ? '(empty)' : text;
}

/** A header's bytes as fetch takes them. */
function encodeBytes(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
