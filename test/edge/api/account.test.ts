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
    seq: 2,
    keyId: 'key-1',
    user: null,
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
      seq: 2,
      key_id: 'key-1',
      user: null,
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
    ['', { limit: 100, requestId: null, before: null }],
    ['?limit=1000&before=7', { limit: 1000, requestId: null, before: 7 }],
    ['?limit=1&request_id=job-1', { limit: 1, requestId: 'job-1', before: null }],
  ])('asks for %s', async (query, asked) => {
    const service = scripted();
    expect((await get(service, `/v1/usage${query}`)).status).toBe(200);
    expect(service.usageQueries).toEqual([{ ...asked, fromMs: null, toMs: null }]);
  });

  it.each(['limit=0', 'limit=1001', 'limit=a', 'limit=', 'limit=1.5', 'request_id='])('refuses %s', async (query) => {
    const error = await errorOf(await get(scripted(), `/v1/usage?${query}`));
    expect(error).toMatchObject({ status: 400, code: 'invalid_request', param: query.split('=')[0] });
  });

  it('sums in buckets of time, aligned to their width, with those in between that are empty', async () => {
    const sum = {
      model: MODEL_ID,
      keyId: null,
      user: null,
      numRequests: 2,
      promptTokens: 10,
      cachedTokens: 4,
      completionTokens: 6,
    };
    const service = scripted({ buckets: [{ ...sum, bucket: 1, costPico: 25_000_000n }] });
    const path = '/v1/usage?start_time=7300&end_time=14400&bucket_width=1h&group_by=model,key';
    const body = (await (await get(service, path)).json()) as Json;
    expect(service.bucketQueries).toMatchObject([
      { originMs: 7_200_000, fromMs: 7_300_000, toMs: 14_400_000, widthMs: 3_600_000, groupBy: ['model', 'key'] },
    ]);
    expect(body).toMatchObject({ object: 'list', has_more: false, next_page: null });
    expect(body.data.map((bucket: Json) => [bucket.start_time, bucket.end_time, bucket.results.length])).toEqual([
      [7300, 10_800, 0],
      [10_800, 14_400, 1],
    ]);
    expect(body.data[1].results[0]).toMatchObject({
      requests: 2,
      prompt_tokens: 10,
      cost_usd: 0.000025,
      cost_pico_usd: '25000000',
    });
  });

  it('pages through more buckets than one answer has, without a gap', async () => {
    const service = scripted();
    let page = '';
    const bounds: number[][] = [];
    for (let pages = 0; pages < 5; pages++) {
      const path = `/v1/usage?start_time=100&end_time=7500&bucket_width=1h&limit=1${page}`;
      const body = (await (await get(service, path)).json()) as Json;
      bounds.push(...body.data.map((bucket: Json) => [bucket.start_time, bucket.end_time]));
      if (!body.has_more) break;
      page = `&page=${body.next_page}`;
    }
    expect(bounds).toEqual([
      [100, 3600],
      [3600, 7200],
      [7200, 7500],
    ]);
  });

  it.each([
    ['bucket_width=1y', 'bucket_width'],
    ['group_by=colour', 'group_by'],
    ['bucket_width=1m&limit=1441', 'limit'],
    ['start_time=10&end_time=10', 'start_time'],
    ['start_time=x', 'start_time'],
    ['start_time=1&page=2', 'page'],
    ['start_time=1&account_ids=Account00001', 'account_ids'],
    ['account_ids[]=Account00001', 'account_ids'],
    ['start_time=1&request_id=job-1', 'request_id'],
    ['bucket_width=1h&before=3', 'before'],
  ])('refuses %s', async (query, param) => {
    const error = await errorOf(await get(scripted(), `/v1/usage?${query}`));
    expect(error).toMatchObject({ status: 400, code: 'invalid_request', param });
  });

  it.each(['models=m', 'api_key_ids[]=k', 'user_ids=u'])('filters by %s, which is of buckets', async (filter) => {
    const service = scripted();
    expect(await (await get(service, `/v1/usage?${filter}`)).json()).toMatchObject({ has_more: false });
    expect(service.bucketQueries.length).toBe(1);
    const name = filter.split(/[[=]/)[0];
    const error = await errorOf(await get(service, `/v1/usage.csv?${filter}`));
    expect(error).toMatchObject({ status: 400, code: 'invalid_request', param: name });
  });

  it('exports CSV that no spreadsheet runs', async () => {
    const rows = [row, { ...row, seq: 1, requestId: 'job-0', user: '=HYPERLINK("http://x","y")', model: 'a,b' }];
    const response = await get(scripted({ rows }), '/v1/usage.csv?start_time=1');
    expect(response.headers.get('content-type')).toContain('text/csv');
    expect((await response.text()).split('\r\n')).toEqual([
      'request_id,created,key_id,user,model,prompt_tokens,cached_tokens,completion_tokens,cost_usd,status,backend',
      `job-1,2023-11-14T22:13:20.000Z,key-1,,${MODEL_ID},5,2,3,0.0000125,completed,wasm`,
      `job-0,2023-11-14T22:13:20.000Z,key-1,"'=HYPERLINK(""http://x"",""y"")","a,b",5,2,3,0.0000125,completed,wasm`,
      '',
    ]);
  });
});

describe('/v1/organization', () => {
  const sum = {
    bucket: 0,
    model: 'm',
    keyId: 'k',
    user: 'u',
    numRequests: 1,
    promptTokens: 5,
    cachedTokens: 2,
    completionTokens: 3,
  };

  it('has usage as OpenAI has it, with its ways to write a list', async () => {
    for (const groups of [
      'group_by[]=model&group_by[]=api_key_id',
      'group_by=model&group_by=api_key_id',
      'group_by=model,api_key_id',
    ]) {
      const service = scripted({ buckets: [{ ...sum, costPico: 1n }] });
      const path = `/v1/organization/usage/completions?start_time=0&end_time=86400&${groups}&models[]=m`;
      const body = (await (await get(service, path)).json()) as Json;
      expect(service.bucketQueries[0]).toMatchObject({ groupBy: ['model', 'key'], models: ['m'], keyIds: null });
      expect(body).toMatchObject({ object: 'page', has_more: false, next_page: null });
      expect(body.data).toEqual([
        {
          object: 'bucket',
          start_time: 0,
          end_time: 86_400,
          results: [
            {
              object: 'organization.usage.completions.result',
              input_tokens: 5,
              output_tokens: 3,
              input_cached_tokens: 2,
              input_audio_tokens: 0,
              output_audio_tokens: 0,
              num_model_requests: 1,
              project_id: null,
              user_id: 'u',
              api_key_id: 'k',
              model: 'm',
              batch: null,
              service_tier: null,
            },
          ],
        },
      ]);
    }
  });

  it('has costs as OpenAI has them', async () => {
    const service = scripted({ buckets: [{ ...sum, costPico: 2_500_000_000_000n }] });
    const body = (await (
      await get(service, '/v1/organization/costs?start_time=0&end_time=1&group_by=line_item')
    ).json()) as Json;
    expect(body.data[0].results[0]).toMatchObject({
      object: 'organization.costs.result',
      amount: { value: 2.5, currency: 'usd' },
      line_item: 'm',
    });
  });
});

it('/v1/account has exact amounts, beyond a double', async () => {
  const limits = { requestsPerMin: 1, tokensPerMin: 2, concurrency: 3 };
  const budget = { hardPico: 5_000_000_000_000n, softPico: null, reset: { kind: 'rolling', windowS: 18_000 } } as const;
  const account = {
    accountId: 'acct',
    name: 'Ann',
    billing: 'prepaid',
    creditPico: 100000000000000000001n,
    spentPico: 1500000000000n,
    reservedPico: 0n,
    limits,
    budget,
    budgetState: { budget, spentPico: 1n, reservedPico: 2n, resetsMs: 1000 },
    stripeCustomer: null,
  } as const;
  expect(await (await get(scripted({ account }), '/v1/account')).json()).toEqual({
    object: 'account',
    id: 'acct',
    name: 'Ann',
    billing: 'prepaid',
    credit_usd: '100000000.000000000001',
    spent_usd: '1.5',
    reserved_usd: '0',
    limits: { requests_per_min: 1, tokens_per_min: 2, concurrency: 3 },
    budget: {
      hard_usd: '5',
      soft_usd: null,
      reset: '5h',
      spent_usd: '0.000000000001',
      reserved_usd: '0.000000000002',
      resets_at: 1,
    },
    stripe_customer: null,
  });
});
