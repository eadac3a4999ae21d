/** Account: what an account used and has left: /v1/usage, /v1/usage.csv, /v1/account, and OpenAI's /v1/organization usage and costs. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { accountBody } from './account-body.ts';
import { ErrorBody, json, security } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiContext, type ApiEnv, authenticated, metered, type Resolve } from './request.ts';
import { completionsAnswer, costsAnswer, csvAnswer, type UsageSource, usageAnswer } from './usage.ts';
import { Buckets, OpenAiPage, Rows } from './usage-body.ts';
import { BucketsQuery, RangeQuery, RowsQuery } from './usage-query.ts';

export const BudgetAnswer = z
  .object({
    hard_usd: z.string().nullable(),
    soft_usd: z.string().nullable(),
    reset: z.string(),
    spent_usd: z.string(),
    reserved_usd: z.string(),
    resets_at: z.int().nullable(),
  })
  .openapi('Budget', { description: 'Amounts are of the window that runs now.' });
export const AccountAnswer = z
  .object({
    object: z.literal('account'),
    id: z.string(),
    name: z.string(),
    billing: z.enum(['prepaid', 'postpaid']),
    credit_usd: z.string(),
    spent_usd: z.string(),
    reserved_usd: z.string(),
    limits: z.object({ requests_per_min: z.int(), tokens_per_min: z.int(), concurrency: z.int() }),
    budget: BudgetAnswer.nullable(),
    stripe_customer: z.string().nullable(),
  })
  .openapi('Account', { description: 'Amounts are exact decimals as text: totals outgrow a double.' });

export function accountRoutes(resolve: Resolve): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  const keyed = authenticated(resolve, refuse);
  const source = (c: ApiContext): UsageSource => ({
    rows: async (query) => metered(c, await c.var.service.usage(c.var.caller, query)),
    buckets: async (query) => metered(c, await c.var.service.usageBuckets(c.var.caller, query)),
  });
  app.get('/v1/usage', keyed, (c) => usageAnswer(c, source(c)));
  app.get('/v1/usage.csv', keyed, (c) => csvAnswer(c, source(c)));
  app.get('/v1/organization/usage/completions', keyed, (c) => completionsAnswer(c, source(c)));
  app.get('/v1/organization/costs', keyed, (c) => costsAnswer(c, source(c)));
  app.get('/v1/account', keyed, async (c) => {
    const account = metered(c, await c.var.service.account(c.var.caller));
    return account.ok ? c.json(accountBody(account.value)) : refuse(c, account.failure);
  });
  return app;
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  const register = (path: string, summary: string, query: z.ZodObject | null, answer: object) =>
    app.openAPIRegistry.registerPath({
      method: 'get',
      path,
      summary,
      tags: ['Account'],
      security,
      ...(query !== null && { request: { query } }),
      responses: {
        200: answer as ReturnType<typeof json>,
        400: json('A parameter is wrong', ErrorBody),
        401: json('The key is wrong or missing', ErrorBody),
        403: json('The key lacks the scope "client" or "admin"', ErrorBody),
        404: json('`ledger_missing`: a server without an edge keeps no accounts and no ledger', ErrorBody),
      },
    });
  const rowsOrBuckets = z.object({ ...RowsQuery.shape, ...BucketsQuery.omit({ limit: true }).shape });
  register(
    '/v1/usage',
    'List what requests cost, newest first, or their sums in buckets of time',
    rowsOrBuckets,
    json('Rows; buckets where start_time, end_time, bucket_width or group_by is sent', z.union([Rows, Buckets])),
  );
  register('/v1/usage.csv', 'Export what requests cost', RangeQuery, {
    description: 'The rows',
    content: { 'text/csv': { schema: z.string() } },
  });
  const buckets = json('A page of buckets', OpenAiPage);
  register(
    '/v1/organization/usage/completions',
    'Sum usage in buckets of time, as OpenAI has it',
    BucketsQuery,
    buckets,
  );
  register('/v1/organization/costs', 'Sum costs in buckets of time, as OpenAI has it', BucketsQuery, buckets);
  register('/v1/account', 'Show credit, limits and budget', null, json('The account', AccountAnswer));
}
