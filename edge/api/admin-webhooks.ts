/** Admin webhooks: where an account's events go, and what became of each. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { seconds } from './account-body.ts';
import type { Webhook } from './accounts.ts';
import { WEBHOOK_EVENTS } from './accounts.ts';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin, readBody } from './admin-route.ts';
import { refuse } from './refusal.ts';
import type { ApiEnv } from './request.ts';

const MAX_LISTED = 100;
/** Plain HTTP reaches this machine alone, for development. */
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

function isEndpoint(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '') return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.has(url.hostname));
}

const WebhookBody = z.strictObject({
  url: z.string().max(2000).refine(isEndpoint, 'must be an https address without a user or a password'),
  events: z
    .array(z.enum(WEBHOOK_EVENTS))
    .min(1)
    .default([...WEBHOOK_EVENTS]),
});

function webhookBody({ id, url, events, createdMs }: Webhook) {
  return { object: 'webhook', id, url, events, created: seconds(createdMs) };
}

export function webhookAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  app.post('/admin/accounts/:id/webhooks', async (c) => {
    const body = await readBody(c, WebhookBody);
    if (!body.ok) return refuse(c, body.failure);
    const made = await resolve(c).createWebhook(c.req.param('id'), body.value, c.var.actor);
    return made.ok
      ? c.json({ ...webhookBody(made.value.webhook), secret: made.value.secret }, 201)
      : refuse(c, made.failure);
  });
  app.get('/admin/accounts/:id/webhooks', async (c) => {
    const listed = await resolve(c).webhooks(c.req.param('id'));
    return listed.ok ? c.json({ object: 'list', data: listed.value.map(webhookBody) }) : refuse(c, listed.failure);
  });
  app.delete('/admin/accounts/:id/webhooks/:webhookId', async (c) => {
    const { id, webhookId } = c.req.param();
    const removed = await resolve(c).removeWebhook(id, webhookId, c.var.actor);
    return removed.ok ? c.body(null, 204) : refuse(c, removed.failure);
  });
  app.get('/admin/accounts/:id/webhooks/:webhookId/deliveries', async (c) => {
    const { id, webhookId } = c.req.param();
    const found = await resolve(c).deliveries(id, webhookId, MAX_LISTED);
    if (!found.ok) return refuse(c, found.failure);
    const data = found.value.map(({ eventId, type, createdMs, attempts, nextMs, outcome }) => ({
      event_id: eventId,
      type,
      created: seconds(createdMs),
      attempts,
      outcome,
      next_attempt: nextMs === null ? null : seconds(nextMs),
    }));
    return c.json({ object: 'list', data });
  });
  return app;
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  const all = '/admin/accounts/{id}/webhooks';
  describeAdmin(app, 'post', all, 'Send events to an address, signed; the secret is shown once', WebhookBody);
  describeAdmin(app, 'get', all, 'List webhooks');
  describeAdmin(app, 'delete', `${all}/{webhookId}`, 'Send nothing there any more');
  describeAdmin(app, 'get', `${all}/{webhookId}/deliveries`, 'List what became of its events, newest first');
}
