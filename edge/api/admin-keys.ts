/** Admin keys: make, list, change, rotate and revoke the keys of an account. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { BudgetBody, KeyLimitsBody, keyBody, name } from './account-body.ts';
import type { KeySettings } from './accounts.ts';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin, readBody } from './admin-route.ts';
import { isBlock } from './ip.ts';
import { refuse } from './refusal.ts';
import type { ApiEnv } from './request.ts';

/** A month: long enough to deploy the new key everywhere. */
const MAX_OVERLAP_S = 31 * 86_400;

const settings = {
  name,
  scopes: z.array(z.enum(['client', 'admin', 'worker'])).min(1),
  models: z.array(name).max(1000).nullable(),
  allowed_ips: z
    .array(z.string().refine(isBlock, 'must be an address or a CIDR block, such as "192.0.2.7" or "2001:db8::/32"'))
    .max(1000)
    .nullable(),
  expires_at: z.int().min(1).nullable().openapi({ description: 'Unix seconds' }),
  limits: KeyLimitsBody.nullable(),
  budget: BudgetBody.nullable(),
};
const KeyBody = z.strictObject({
  name: settings.name.default('key'),
  scopes: settings.scopes.default(['client']),
  models: settings.models.default(null),
  allowed_ips: settings.allowed_ips.default(null),
  expires_at: settings.expires_at.default(null),
  limits: settings.limits.default(null),
  budget: settings.budget.default(null),
});
const KeyChanges = z.strictObject(settings).partial();
const RotateBody = z.strictObject({
  overlap_s: z.int().min(0).max(MAX_OVERLAP_S).default(0).openapi({ description: 'How long the old key still holds.' }),
});

function settingsOf(body: z.output<typeof KeyChanges>): Partial<KeySettings> {
  const { name, scopes, models, allowed_ips, expires_at, limits, budget } = body;
  return {
    ...(name !== undefined && { name }),
    ...(scopes !== undefined && { scopes }),
    ...(models !== undefined && { models }),
    ...(allowed_ips !== undefined && { ips: allowed_ips }),
    ...(expires_at !== undefined && { expiresMs: expires_at === null ? null : expires_at * 1000 }),
    ...(limits !== undefined && { limits }),
    ...(budget !== undefined && { budget }),
  };
}

export function keyAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  app.post('/admin/accounts/:id/keys', async (c) => {
    const body = await readBody(c, KeyBody);
    if (!body.ok) return refuse(c, body.failure);
    const settings = settingsOf(body.value) as KeySettings;
    const created = await resolve(c).createKey(c.req.param('id'), settings, c.var.actor);
    if (!created.ok) return refuse(c, created.failure);
    return c.json({ ...keyBody(created.value.view), key: created.value.key }, 201);
  });
  app.get('/admin/accounts/:id/keys', async (c) => {
    const keys = await resolve(c).keys(c.req.param('id'));
    return keys.ok ? c.json({ object: 'list', data: keys.value.map(keyBody) }) : refuse(c, keys.failure);
  });
  app.patch('/admin/accounts/:id/keys/:keyId', async (c) => {
    const body = await readBody(c, KeyChanges);
    if (!body.ok) return refuse(c, body.failure);
    const { id, keyId } = c.req.param();
    const changed = await resolve(c).updateKey(id, keyId, settingsOf(body.value), c.var.actor);
    return changed.ok ? c.json(keyBody(changed.value)) : refuse(c, changed.failure);
  });
  app.post('/admin/accounts/:id/keys/:keyId/rotate', async (c) => {
    const body = await readBody(c, RotateBody);
    if (!body.ok) return refuse(c, body.failure);
    const { id, keyId } = c.req.param();
    const rotated = await resolve(c).rotateKey(id, keyId, body.value.overlap_s * 1000, c.var.actor);
    if (!rotated.ok) return refuse(c, rotated.failure);
    return c.json({ ...keyBody(rotated.value.view), key: rotated.value.key }, 201);
  });
  app.delete('/admin/accounts/:id/keys/:keyId', async (c) => {
    const { id, keyId } = c.req.param();
    const revoked = await resolve(c).revokeKey(id, keyId, c.var.actor);
    return revoked.ok ? c.body(null, 204) : refuse(c, revoked.failure);
  });
  return app;
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  const all = '/admin/accounts/{id}/keys';
  describeAdmin(app, 'post', all, 'Make a key; it is shown once', KeyBody);
  describeAdmin(app, 'get', all, 'List keys');
  describeAdmin(app, 'patch', `${all}/{keyId}`, 'Change a key: what is sent, and nothing else', KeyChanges);
  describeAdmin(app, 'post', `${all}/{keyId}/rotate`, 'Replace a key by a new one, shown once', RotateBody);
  describeAdmin(app, 'delete', `${all}/{keyId}`, 'Revoke a key');
}
