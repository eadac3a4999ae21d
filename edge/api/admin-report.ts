/** Admin report: usage over all accounts in buckets of time, from the reporting copy. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin } from './admin-route.ts';
import { refuse } from './refusal.ts';
import type { ApiEnv } from './request.ts';
import { bucketBodies, sumBody } from './usage-body.ts';
import { bucketsOf } from './usage-query.ts';

const GROUPS = { account: 'account', key: 'key', model: 'model', user: 'user' } as const;

export function reportAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describeAdmin(
    app,
    'get',
    '/admin/usage',
    'Sum what requests of all accounts cost in buckets of time, some seconds behind',
  );
  app.get('/admin/usage', async (c) => {
    const asked = bucketsOf(new URL(c.req.url), GROUPS, Date.now());
    if (!asked.ok) return refuse(c, asked.failure);
    const { query, nextPage } = asked.value;
    const sums = await resolve(c).report(query);
    if (!sums.ok) return refuse(c, sums.failure);
    const data = bucketBodies(query, sums.value, (sum) => ({ account_id: sum.accountId, ...sumBody(sum) }));
    return c.json({ object: 'list', data, has_more: nextPage !== null, next_page: nextPage });
  });
  return app;
}
