/** Account: GET /v1/usage and /v1/account. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { ErrorBody, json, security } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, authenticated, type Resolve, schemaFailure } from './request.ts';
import type { AccountState, UsageRow } from './service.ts';
import { decimalUsd, numberUsd } from './usd.ts';

/** One answer of the account's object; a thousand rows are about 300 kB. */
const MAX_ROWS = 1000;
const DEFAULT_ROWS = 100;
/** Job ids are names of at most 200 characters. */
const MAX_ID_CHARS = 200;
/** OpenAI's usage buckets, not done yet. */
const BUCKET_FIELDS = ['start_time', 'end_time', 'bucket_width', 'group_by'];

const UsageQuery = z.object({
  limit: z.coerce.number().pipe(z.int().min(1).max(MAX_ROWS)).default(DEFAULT_ROWS).openapi({ type: 'integer' }),
  request_id: z.string().min(1).max(MAX_ID_CHARS).optional(),
});
const Row = z
  .object({
    request_id: z.string(),
    created: z.int(),
    model: z.string(),
    prompt_tokens: z.int(),
    cached_tokens: z.int(),
    completion_tokens: z.int(),
    cost_usd: z.number(),
    cost_pico_usd: z.string().openapi({ description: '10⁻¹² USD: the amount that is billed.' }),
    status: z.enum(['completed', 'cancelled', 'failed']),
    backend: z.string().nullable(),
  })
  .openapi('UsageRow');
const Rows = z.object({ object: z.literal('list'), data: z.array(Row) }).openapi('UsageRows');
const Account = z
  .object({
    object: z.literal('account'),
    id: z.string(),
    name: z.string(),
    credit_usd: z.string(),
    spent_usd: z.string(),
    reserved_usd: z.string(),
  })
  .openapi('Account', { description: 'Amounts are exact decimals as text: totals outgrow a double.' });

function rowBody(row: UsageRow): z.infer<typeof Row> {
  return {
    request_id: row.requestId,
    created: row.createdS,
    model: row.model,
    prompt_tokens: row.usage.promptTokens,
    cached_tokens: row.usage.cachedTokens,
    completion_tokens: row.usage.completionTokens,
    cost_usd: numberUsd(row.usage.costPicoUsd),
    cost_pico_usd: String(row.usage.costPicoUsd),
    status: row.status,
    backend: row.backend,
  };
}

function accountBody(state: AccountState): z.infer<typeof Account> {
  return {
    object: 'account',
    id: state.accountId,
    name: state.name,
    credit_usd: decimalUsd(state.creditPicoUsd),
    spent_usd: decimalUsd(state.spentPicoUsd),
    reserved_usd: decimalUsd(state.reservedPicoUsd),
  };
}

export function accountRoutes(resolve: Resolve): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  const keyed = authenticated(resolve, refuse);
  const about = { method: 'get' as const, tags: ['Account'], security };
  const unauthorized = json('The key is wrong or missing', ErrorBody);
  app.openAPIRegistry.registerPath({
    ...about,
    path: '/v1/usage',
    summary: 'List what requests cost, newest first',
    request: { query: UsageQuery },
    responses: { 200: json('The rows', Rows), 400: json('A parameter is wrong', ErrorBody), 401: unauthorized },
  });
  app.openAPIRegistry.registerPath({
    ...about,
    path: '/v1/account',
    summary: 'Show the credit',
    responses: { 200: json('The account', Account), 401: unauthorized },
  });
  app.get('/v1/usage', keyed, async (c) => {
    const sent = c.req.query();
    const bucketField = BUCKET_FIELDS.find((field) => Object.hasOwn(sent, field));
    if (bucketField !== undefined)
      return refuse(c, {
        code: 'unsupported_field',
        param: bucketField,
        reason: 'rows only, use limit and request_id',
      });
    const query = UsageQuery.safeParse(sent);
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const { limit, request_id } = query.data;
    const rows = await c.var.service.usage(c.var.caller, { limit, requestId: request_id ?? null });
    return rows.ok ? c.json({ object: 'list', data: rows.value.map(rowBody) }) : refuse(c, rows.failure);
  });
  app.get('/v1/account', keyed, async (c) => {
    const state = await c.var.service.account(c.var.caller);
    return state.ok ? c.json(accountBody(state.value)) : refuse(c, state.failure);
  });
  return app;
}
