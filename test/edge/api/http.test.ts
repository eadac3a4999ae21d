/** What holds on every route: the key, the body's bounds, errors without internals, CORS, the open pages. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createApi } from '../../../edge/api/app.ts';
import { MAX_BODY_BYTES } from '../../../edge/api/request.ts';
import { answered, errorOf, get, JOB_ID, type Json, KEY, post, scripted } from './scripted-service.ts';

const CHAT = '/v1/chat/completions';
const hello = { messages: [{ role: 'user', content: 'Hi' }] };
afterEach(() => void vi.restoreAllMocks());

describe('the key', () => {
  it.each([CHAT, '/v1/completions', '/v1/models', '/v1/models/a/b', '/v1/usage', '/v1/usage.csv', '/v1/account'])(
    'is asked for on %s, in the OpenAI shape',
    async (path) => {
      const method = path.endsWith('completions') ? 'POST' : 'GET';
      const response = await scripted().app.request(path, { method });
      expect(await errorOf(response)).toEqual({
        status: 401,
        message: 'Incorrect or missing API key.',
        type: 'authentication_error',
        param: null,
        code: 'invalid_api_key',
      });
    },
  );

  it.each(['/generate', '/generate_stream', '/'])('is asked for on POST %s, in the TGI shape', async (path) => {
    const response = await scripted().app.request(path, { method: 'POST' });
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual({
      error: 'Incorrect or missing API key.',
      error_type: 'authentication',
    });
  });

  it('is checked before the body is read', async () => {
    const response = await post(scripted(), CHAT, 'not JSON', { authorization: 'Bearer wrong' });
    expect(response.status).toBe(401);
  });

  it.each(['/health', '/docs', '/openapi.json', '/'])('is not asked for on GET %s', async (path) => {
    expect((await scripted().app.request(path)).status).toBe(200);
  });
});

describe('the body', () => {
  it('is refused by its declared size without being read', async () => {
    const response = await post(scripted(), CHAT, hello, { 'content-length': String(MAX_BODY_BYTES + 1) });
    expect(await errorOf(response)).toMatchObject({ status: 413, code: 'body_too_large' });
  });

  it('is refused by its real size where none is declared, and the rest is not read', async () => {
    let numPulled = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        numPulled++;
        controller.enqueue(new Uint8Array(100_000));
      },
    });
    const request = new Request('http://nibble/generate', {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}` },
      body,
      duplex: 'half',
    } as RequestInit);
    const response = await scripted().app.request(request);
    expect(response.status).toBe(413);
    expect(((await response.json()) as Json).error_type).toBe('body_too_large');
    expect(numPulled).toBeLessThan(15);
  });

  it('may have exactly the limit', async () => {
    const text = JSON.stringify(hello).padEnd(MAX_BODY_BYTES, ' ');
    expect((await post(scripted(), CHAT, text)).status).toBe(200);
  });

  it.each(['{', '', '{"a":1}}', '\u0000'])('is 400 when it is not JSON: %j', async (text) => {
    expect(await errorOf(await post(scripted(), CHAT, text))).toMatchObject({ status: 400, code: 'invalid_json' });
    const tgi = await post(scripted(), '/generate', text);
    expect(tgi.status).toBe(400);
    expect(((await tgi.json()) as Json).error_type).toBe('invalid_json');
  });

  it('is 400 when it is not UTF-8', async () => {
    const response = await scripted().app.request(CHAT, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}` },
      body: new Uint8Array([0x22, 0xff, 0x22]),
    });
    expect(await errorOf(response)).toMatchObject({ status: 400, code: 'invalid_json' });
  });

  it.each(['[]', 'null', '3', '"text"'])('is 400 when it is JSON but no object: %s', async (text) => {
    expect(await errorOf(await post(scripted(), CHAT, text))).toMatchObject({ status: 400, code: 'invalid_request' });
  });

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])(
    'is 415 as %s',
    async (type) => {
      const response = await post(scripted(), CHAT, hello, { 'content-type': type });
      expect(await errorOf(response)).toMatchObject({ status: 415, code: 'unsupported_media_type' });
    },
  );

  it('may be JSON by any of its names, or by none', async () => {
    for (const type of ['application/json; charset=utf-8', 'Application/JSON', 'application/problem+json'])
      expect((await post(scripted(), CHAT, hello, { 'content-type': type })).status).toBe(200);
    const untyped = new Request('http://nibble/v1/chat/completions', {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}` },
      body: new TextEncoder().encode(JSON.stringify(hello)),
    });
    expect(untyped.headers.get('content-type')).toBeNull();
    expect((await scripted().app.request(untyped)).status).toBe(200);
  });
});

describe('errors', () => {
  it('name an unknown route and a wrong method', async () => {
    const unknown = await get(scripted(), '/v1/responses');
    expect(await errorOf(unknown)).toMatchObject({ status: 404, code: 'route_not_found' });
    const wrong = await get(scripted(), CHAT);
    expect(wrong.headers.get('allow')).toBe('POST');
    expect(await errorOf(wrong)).toMatchObject({ status: 405, code: 'method_not_allowed' });
    expect((await get(scripted(), '/info')).status).toBe(404);
  });

  it('keep an unforeseen exception in the log, under the id that the client sees', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {});
    const response = await get(scripted(), '/v1/account');
    const text = await response.clone().text();
    expect(await errorOf(response)).toMatchObject({ status: 500, message: 'Internal error.', code: 'internal' });
    expect(text).not.toMatch(/scripted|at .*\.ts/);
    const logged = String(log.mock.calls[0]?.[0]);
    expect(logged).toContain('no account was scripted');
    expect(logged).toContain(response.headers.get('x-request-id'));
  });

  it('have the TGI shape on TGI routes, also when the service cannot be made', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const app = createApi(() => {
      throw new Error('no binding');
    });
    const response = await app.request('/generate', { method: 'POST' });
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({ error: 'Internal error.', error_type: 'internal' });
  });

  it('say when to come back', async () => {
    const refused = scripted({ refusal: { code: 'rate_limited', limit: 'tokens', retryAfterS: 1.2 } });
    const response = await post(refused, CHAT, hello);
    expect(response.headers.get('retry-after')).toBe('2');
    expect(await errorOf(response)).toMatchObject({ status: 429, code: 'rate_limit_exceeded' });
  });
});

describe('headers', () => {
  it('name the request: the job where there is one, else a fresh id', async () => {
    expect((await post(scripted(), CHAT, hello)).headers.get('x-request-id')).toBe(JOB_ID);
    const ids = await Promise.all(['/health', '/nowhere', '/v1/models'].map((path) => get(scripted(), path)));
    const fresh = ids.map((response) => response.headers.get('x-request-id'));
    expect(new Set(fresh).size).toBe(3);
    for (const id of fresh) expect(id).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('let any origin call with any header, and read ours', async () => {
    const { app } = scripted({ steps: answered('Hi') });
    const preflight = await app.request(CHAT, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://page.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type,x-stainless-os',
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
    expect(preflight.headers.get('access-control-allow-methods')).toBe('GET,POST');
    expect(preflight.headers.get('access-control-allow-headers')).toMatch(
      /authorization.*content-type.*x-stainless-os/,
    );
    const answer = await post({ app }, CHAT, hello, { origin: 'https://page.example' });
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    expect(answer.headers.get('access-control-expose-headers')).toContain('x-nibble-cost-usd');
  });
});

describe('the pages', () => {
  it('/health is empty', async () => {
    expect(await (await get(scripted(), '/health')).text()).toBe('');
  });

  it('/openapi.json describes every route with its schemas', async () => {
    const document = (await (await get(scripted(), '/openapi.json')).json()) as Json;
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/',
      '/generate',
      '/generate_stream',
      '/v1/account',
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/models',
      '/v1/models/{id}',
      '/v1/organization/costs',
      '/v1/organization/usage/completions',
      '/v1/usage',
      '/v1/usage.csv',
    ]);
    const chat = document.components.schemas.ChatCompletionRequest;
    expect(chat.required).toEqual(['messages']);
    expect(chat.properties.temperature).toMatchObject({ minimum: 0, maximum: 2 });
    for (const path of ['/v1/chat/completions', '/v1/completions', '/generate', '/generate_stream', '/']) {
      const { parameters, responses } = document.paths[path].post;
      expect(parameters).toMatchObject([
        { in: 'header', name: 'idempotency-key' },
        { in: 'header', name: 'last-event-id' },
      ]);
      expect(Object.keys(responses)).toEqual(expect.arrayContaining(['409', '410']));
    }
    expect(document.paths['/generate'].post.security).toEqual([{ bearer: [] }]);
  });

  it('/docs loads nothing from elsewhere', async () => {
    const page = await (await get(scripted(), '/docs')).text();
    expect(page).toContain('POST /v1/chat/completions');
    expect(page).not.toMatch(/<script|src=|<link/);
  });
});
