/** Admin accounts: open, list, show and change accounts, add credit, read their usage and audit log. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { AccountLimits, accountBody, BudgetBody, name, seconds, usd } from './account-body.ts';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin, readBody } from './admin-route.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, schemaFailure } from './request.ts';
import { csvAnswer, type UsageSource, usageAnswer } from './usage.ts';
import { decimalUsd } from './usd.ts';

const MAX_LISTED = 1000;
const settings = {
  name,
  billing: z.enum(['prepaid', 'postpaid']),
  limits: AccountLimits,
  budget: BudgetBody.nullable(),
  stripe_customer: z.string().min(1).max(200).nullable(),
};
const AccountBody = z.strictObject({
  ...settings,
  credit_usd: usd.default(0n),
  billing: settings.billing.default('prepaid'),
  limits: settings.limits.default({}),
  budget: settings.budget.default(null),
  stripe_customer: settings.stripe_customer.default(null),
});
const AccountChanges = z.strictObject(settings).partial();
const CreditBody = z.strictObject({
  credit_usd: usd,
  reference: z.string().min(1).max(200).nullable().default(null).openapi({
    description: 'Your own id of the payment: the same one is added once, however often it is sent.',
  }),
  note: z.string().max(1000).nullable().default(null),
});
const ListQuery = z.object({
  limit: z.coerce.number().pipe(z.int().min(1).max(MAX_LISTED)).default(100),
  after: z.string().max(200).optional(),
});

const LogQuery = z.object({
  limit: z.coerce.number().pipe(z.int().min(1).max(MAX_LISTED)).default(MAX_LISTED),
  before: z.coerce.number().pipe(z.int().min(1)).nullable().default(null),
});

export function accountAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  app.post('/admin/accounts', async (c) => {
    const body = await readBody(c, AccountBody);
    if (!body.ok) return refuse(c, body.failure);
    const { credit_usd, stripe_customer, ...account } = body.value;
    const created = await resolve(c).createAccount(
      { ...account, stripeCustomer: stripe_customer },
      credit_usd,
      c.var.actor,
    );
    return created.ok ? c.json(accountBody(created.value), 201) : refuse(c, created.failure);
  });
  app.get('/admin/accounts', async (c) => {
    const query = ListQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const listed = await resolve(c).accounts(query.data.after ?? null, query.data.limit);
    if (!listed.ok) return refuse(c, listed.failure);
    const data = listed.value.map(({ accountId, name, createdMs }) => ({
      id: accountId,
      name,
      created: seconds(createdMs),
    }));
    return c.json({ object: 'list', data, has_more: data.length === query.data.limit });
  });
  app.get('/admin/accounts/:id', async (c) => {
    const account = await resolve(c).account(c.req.param('id'));
    return account.ok ? c.json(accountBody(account.value)) : refuse(c, account.failure);
  });
  app.patch('/admin/accounts/:id', async (c) => {
    const body = await readBody(c, AccountChanges);
    if (!body.ok) return refuse(c, body.failure);
    const { stripe_customer, name, billing, limits, budget } = body.value;
    const changes = {
      ...(name !== undefined && { name }),
      ...(billing !== undefined && { billing }),
      ...(limits !== undefined && { limits }),
      ...(budget !== undefined && { budget }),
      ...(stripe_customer !== undefined && { stripeCustomer: stripe_customer }),
    };
    const account = await resolve(c).configure(c.req.param('id'), changes, c.var.actor);
    return account.ok ? c.json(accountBody(account.value)) : refuse(c, account.failure);
  });
  app.post('/admin/accounts/:id/credits', async (c) => {
    const body = await readBody(c, CreditBody);
    if (!body.ok) return refuse(c, body.failure);
    const { credit_usd: pico, reference, note } = body.value;
    const account = await resolve(c).topUp(c.req.param('id'), { pico, reference, note }, c.var.actor);
    return account.ok ? c.json(accountBody(account.value)) : refuse(c, account.failure);
  });
  app.get('/admin/accounts/:id/credits', async (c) => {
    const query = LogQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const credits = await resolve(c).credits(c.req.param('id'), query.data);
    if (!credits.ok) return refuse(c, credits.failure);
    const data = credits.value.map(({ pico, createdMs, ...credit }) => ({
      ...credit,
      credit_usd: decimalUsd(pico),
      created: seconds(createdMs),
    }));
    return c.json({ object: 'list', data, has_more: data.length === query.data.limit });
  });
  app.get('/admin/accounts/:id/audit', async (c) => {
    const query = LogQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const log = await resolve(c).auditLog(c.req.param('id'), query.data);
    if (!log.ok) return refuse(c, log.failure);
    const data = log.value.map(({ createdMs, ...entry }) => ({ created: seconds(createdMs), ...entry }));
    return c.json({ object: 'list', data, has_more: data.length === query.data.limit });
  });
  const source = (service: ReturnType<ResolveAdmin>, id: string): UsageSource => ({
    rows: (query) => service.usage(id, query),
    buckets: (query) => service.usageBuckets(id, query),
  });
  app.get('/admin/accounts/:id/usage', (c) => usageAnswer(c, source(resolve(c), c.req.param('id'))));
  app.get('/admin/accounts/:id/usage.csv', (c) => csvAnswer(c, source(resolve(c), c.req.param('id'))));
  return app;
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  const one = '/admin/accounts/{id}';
  describeAdmin(app, 'post', '/admin/accounts', 'Open an account', AccountBody);
  describeAdmin(app, 'get', '/admin/accounts', 'List the accounts');
  describeAdmin(app, 'get', one, 'Show an account');
  describeAdmin(app, 'patch', one, 'Change an account: what is sent, and nothing else', AccountChanges);
  describeAdmin(app, 'post', `${one}/credits`, 'Add credit, once for a reference', CreditBody);
  describeAdmin(app, 'get', `${one}/credits`, 'List the credits, newest first: `limit` of them, `before` a `seq`');
  describeAdmin(app, 'get', `${one}/audit`, 'List who changed what, newest first: `limit` entries, `before` a `seq`');
  describeAdmin(app, 'get', `${one}/usage`, 'List or sum what requests cost, as /v1/usage');
  describeAdmin(app, 'get', `${one}/usage.csv`, 'Export what requests cost, as /v1/usage.csv');
}
