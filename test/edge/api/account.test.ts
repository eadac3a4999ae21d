/** Models, usage and account. */
import { describe, expect, it } from 'vitest';
import { card, errorOf, get, type Json, MODEL_ID, scripted, USAGE } from './scripted-service.ts';

describe('/v1/models', () => {
  it('lists the default first', async () => {
    const service = scripted({ cards: [card(MODEL_ID), card('other')] });
    expect(await (await get(service, '/v1/models')).json()).toMatchObject({
      object: 'list',
      data: [{ id: MODEL_ID }, { id: 'other' }],
    });
  });

  it.each([MODEL_ID, encodeURIComponent(MODEL_ID)])('describes %s, with the slash as it is or encoded', async (id) => {
    expect(await (await get(scripted(), `/v1/models/${id}`)).json()).toEqual({
      id: MODEL_ID,
      object: 'model',
      created: 0,
      owned_by: 'nibble',
      context_length: 2048,
      architecture: 'llama',
      quantization: 'gptq-int4',
      parameters: 1_000_000,
    });
  });

  it('is 404 for one that is not there', async () => {
    expect(await errorOf(await get(scripted(), '/v1/models/org/none'))).toMatchObject({
      status: 404,
      code: 'model_not_found',
      message: 'The model "org/none" does not exist.',
    });
  });
});

describe('/v1/usage', () => {
  const row = {
    requestId: 'job-1',
    createdS: 1_700_000_000,
    model: MODEL_ID,
    usage: USAGE,
    status: 'completed',
    backend: 'wasm',
  } as const;

  it('has a row for each request, its cost as a number and exactly', async () => {
    const service = scripted({ rows: [row, { ...row, requestId: 'job-0', status: 'failed', backend: null }] });
    const body = (await (await get(service, '/v1/usage')).json()) as Json;
    expect(body.object).toBe('list');
    expect(body.data[0]).toEqual({
      request_id: 'job-1',
      created: 1_700_000_000,
      model: MODEL_ID,
      prompt_tokens: 5,
      cached_tokens: 2,
      completion_tokens: 3,
      cost_usd: 0.0000125,
      cost_pico_usd: '12500000',
      status: 'completed',
      backend: 'wasm',
    });
    expect(body.data[1]).toMatchObject({ request_id: 'job-0', status: 'failed', backend: null });
  });

  it.each([
    ['', { limit: 100, requestId: null }],
    ['?limit=1000', { limit: 1000, requestId: null }],
    ['?limit=1&request_id=job-1', { limit: 1, requestId: 'job-1' }],
  ])('asks for %s', async (query, asked) => {
    const service = scripted();
    expect((await get(service, `/v1/usage${query}`)).status).toBe(200);
    expect(service.usageQueries).toEqual([asked]);
  });

  it.each(['limit=0', 'limit=1001', 'limit=a', 'limit=', 'limit=1.5', 'request_id='])('refuses %s', async (query) => {
    const error = await errorOf(await get(scripted(), `/v1/usage?${query}`));
    expect(error).toMatchObject({ status: 400, code: 'invalid_request', param: query.split('=')[0] });
  });

  it.each(['start_time', 'end_time', 'bucket_width', 'group_by'])('does no buckets yet: %s', async (name) => {
    const error = await errorOf(await get(scripted(), `/v1/usage?${name}=1`));
    expect(error).toMatchObject({ status: 400, code: 'unsupported_field', param: name });
  });
});

it('/v1/account has exact amounts, beyond a double', async () => {
  const account = {
    accountId: 'acct',
    name: 'Ann',
    creditPicoUsd: '100000000000000000001',
    spentPicoUsd: '1500000000000',
    reservedPicoUsd: '0',
  };
  expect(await (await get(scripted({ account }), '/v1/account')).json()).toEqual({
    object: 'account',
    id: 'acct',
    name: 'Ann',
    credit_usd: '100000000.000000000001',
    spent_usd: '1.5',
    reserved_usd: '0',
  });
});
