/** Admin: accounts, credit, keys, and what models cost and who answers for them, behind the root credential. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import { ErrorBody, json, security } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiContext, type ApiEnv, readJson, schemaFailure } from './request.ts';
import type { AccountState, Outcome, Scope } from './service.ts';
import { decimalUsd } from './usd.ts';

export interface AccountKey {
  keyId: string;
  name: string;
  scopes: Scope[];
  /** null: every model. */
  models: string[] | null;
  createdS: number;
  expiresS: number | null;
  revokedS: number | null;
}

export interface RateLimits {
  requestsPerMin: number;
  tokensPerMin: number;
  concurrency: number;
}

/** What the admin routes do. Credit is decimal dollars as text; what is none fails with `invalid_request`. */
export interface AdminService {
  isAdmin(authorization: string | undefined): Promise<boolean>;
  createAccount(name: string, creditUsd: string, limits: Partial<RateLimits>): Promise<Outcome<AccountState>>;
  account(accountId: string): Promise<Outcome<AccountState>>;
  topUp(accountId: string, creditUsd: string): Promise<Outcome<AccountState>>;
  /** The key itself is in this answer and nowhere else. */
  createKey(accountId: string, key: NewKey): Promise<Outcome<{ key: string; keyId: string }>>;
  keys(accountId: string): Promise<Outcome<AccountKey[]>>;
  revokeKey(accountId: string, keyId: string): Promise<Outcome<null>>;
  setPrice(model: string, promptMicroUsdPerMtok: number, completionMicroUsdPerMtok: number): Promise<Outcome<null>>;
  /** Anything but `never` needs a model that the edge's own fallback can run; why it cannot is an `invalid_request`. */
  setFallback(model: string, policy: FallbackPolicy): Promise<Outcome<null>>;
  removeModel(model: string): Promise<Outcome<null>>;
}
export type NewKey = Pick<AccountKey, 'name' | 'scopes' | 'models' | 'expiresS'>;
export type ResolveAdmin = (c: Context) => AdminService;

const name = z.string().min(1).max(200);
const count = z.int().min(0);
/** $1,000 per million tokens, as in the ledger's prices. */
const price = count.max(1_000_000_000);
/** A number is read by its shortest decimal form, so 0.1 is a tenth exactly. */
const usd = z.union([z.string(), z.number()]).transform(String).openapi({ type: 'string', example: '5.00' });
const AccountBody = z.strictObject({
  name,
  credit_usd: usd.default('0'),
  limits: z.strictObject({ requests_per_min: count, tokens_per_min: count, concurrency: count }).partial().default({}),
});
const CreditBody = z.strictObject({ credit_usd: usd });
const KeyBody = z.strictObject({
  name: name.default('key'),
  scopes: z
    .array(z.enum(['client', 'admin', 'worker']))
    .min(1)
    .default(['client']),
  models: z.array(name).max(1000).nullable().default(null),
  expires_at: z.int().min(1).nullable().default(null).openapi({ description: 'Unix seconds' }),
});
const FallbackPolicy = z.enum(['never', 'when-no-worker', 'always']);
type FallbackPolicy = z.infer<typeof FallbackPolicy>;
const ModelBody = z
  .strictObject({
    prompt_micro_usd_per_mtok: price.optional(),
    completion_micro_usd_per_mtok: price.optional(),
    fallback: FallbackPolicy.optional().openapi({ description: "When the edge's own fallback answers" }),
  })
  .refine(
    ({ prompt_micro_usd_per_mtok: prompt, completion_micro_usd_per_mtok: completion, fallback }) =>
      (prompt === undefined) === (completion === undefined) && (prompt !== undefined || fallback !== undefined),
    'give both prices, fallback, or all three',
  );

export function adminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  app.use('/admin/*', rootOnly(resolve));
  app.post('/admin/accounts', async (c) => {
    const body = await readBody(c, AccountBody);
    if (!body.ok) return refuse(c, body.failure);
    const { requests_per_min, tokens_per_min, concurrency } = body.value.limits;
    const limits = {
      ...(requests_per_min !== undefined && { requestsPerMin: requests_per_min }),
      ...(tokens_per_min !== undefined && { tokensPerMin: tokens_per_min }),
      ...(concurrency !== undefined && { concurrency }),
    };
    const created = await resolve(c).createAccount(body.value.name, body.value.credit_usd, limits);
    return created.ok ? c.json(accountBody(created.value), 201) : refuse(c, created.failure);
  });
  app.get('/admin/accounts/:id', async (c) => {
    const account = await resolve(c).account(c.req.param('id'));
    return account.ok ? c.json(accountBody(account.value)) : refuse(c, account.failure);
  });
  app.post('/admin/accounts/:id/credits', async (c) => {
    const body = await readBody(c, CreditBody);
    if (!body.ok) return refuse(c, body.failure);
    const account = await resolve(c).topUp(c.req.param('id'), body.value.credit_usd);
    return account.ok ? c.json(accountBody(account.value)) : refuse(c, account.failure);
  });
  app.post('/admin/accounts/:id/keys', async (c) => {
    const body = await readBody(c, KeyBody);
    if (!body.ok) return refuse(c, body.failure);
    const { expires_at, ...key } = body.value;
    const created = await resolve(c).createKey(c.req.param('id'), { ...key, expiresS: expires_at });
    if (!created.ok) return refuse(c, created.failure);
    return c.json({ id: created.value.keyId, key: created.value.key, ...body.value }, 201);
  });
  app.get('/admin/accounts/:id/keys', async (c) => {
    const keys = await resolve(c).keys(c.req.param('id'));
    return keys.ok ? c.json({ object: 'list', data: keys.value.map(keyBody) }) : refuse(c, keys.failure);
  });
  app.delete('/admin/accounts/:id/keys/:keyId', async (c) => {
    const revoked = await resolve(c).revokeKey(c.req.param('id'), c.req.param('keyId'));
    return revoked.ok ? c.body(null, 204) : refuse(c, revoked.failure);
  });
  // Hub ids have a slash, which clients send encoded or as it is.
  app.put('/admin/models/:model{.+}', async (c) => {
    const model = name.safeParse(c.req.param('model'));
    const body = await readBody(c, ModelBody);
    if (!body.ok) return refuse(c, body.failure);
    if (!model.success) return refuse(c, schemaFailure(model.error));
    const { prompt_micro_usd_per_mtok: prompt, completion_micro_usd_per_mtok: completion, fallback } = body.value;
    if (fallback !== undefined) {
      const set = await resolve(c).setFallback(model.data, fallback);
      if (!set.ok) return refuse(c, set.failure);
    }
    if (prompt !== undefined && completion !== undefined) {
      const set = await resolve(c).setPrice(model.data, prompt, completion);
      if (!set.ok) return refuse(c, set.failure);
    }
    return c.json({ id: model.data, ...body.value });
  });
  app.delete('/admin/models/:model{.+}', async (c) => {
    const removed = await resolve(c).removeModel(c.req.param('model'));
    return removed.ok ? c.body(null, 204) : refuse(c, removed.failure);
  });
  return app;
}

function rootOnly(resolve: ResolveAdmin): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    if (!(await resolve(c).isAdmin(c.req.header('authorization')))) return refuse(c, { code: 'invalid_key' });
    await next();
  };
}

async function readBody<Schema extends z.ZodType>(c: ApiContext, schema: Schema): Promise<Outcome<z.output<Schema>>> {
  const body = await readJson(c.req.raw);
  if (!body.ok) return body;
  const parsed = schema.safeParse(body.value);
  return parsed.success
    ? { ok: true, value: parsed.data }
    : { ok: false, failure: schemaFailure(parsed.error as z.ZodError) };
}

function accountBody(state: AccountState) {
  return {
    object: 'account',
    id: state.accountId,
    name: state.name,
    credit_usd: decimalUsd(state.creditPicoUsd),
    spent_usd: decimalUsd(state.spentPicoUsd),
    reserved_usd: decimalUsd(state.reservedPicoUsd),
  };
}

function keyBody(key: AccountKey) {
  const { keyId, name, scopes, models, createdS, expiresS, revokedS } = key;
  return { id: keyId, name, scopes, models, created: createdS, expires_at: expiresS, revoked_at: revokedS };
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  const id = { id: z.string() };
  const register = (
    method: 'get' | 'post' | 'put' | 'delete',
    path: string,
    summary: string,
    params: Record<string, z.ZodString>,
    body: z.ZodType | null,
  ) =>
    app.openAPIRegistry.registerPath({
      method,
      path,
      summary,
      tags: ['Admin'],
      security,
      request: {
        params: z.object(params),
        ...(body !== null && { body: { required: true, content: { 'application/json': { schema: body } } } }),
      },
      responses: {
        200: { description: 'Done' },
        401: json('Not the admin key', ErrorBody),
        404: json('Not there', ErrorBody),
      },
    });
  register('post', '/admin/accounts', 'Open an account', {}, AccountBody);
  register('get', '/admin/accounts/{id}', 'Show an account', id, null);
  register('post', '/admin/accounts/{id}/credits', 'Add credit', id, CreditBody);
  register('post', '/admin/accounts/{id}/keys', 'Make a key; it is shown once', id, KeyBody);
  register('get', '/admin/accounts/{id}/keys', 'List keys', id, null);
  register('delete', '/admin/accounts/{id}/keys/{keyId}', 'Revoke a key', { ...id, keyId: z.string() }, null);
  register(
    'put',
    '/admin/models/{model}',
    'Set the price of a model, and whether the edge may answer for it',
    { model: z.string() },
    ModelBody,
  );
  register(
    'delete',
    '/admin/models/{model}',
    'Forget a model, its price and its fallback',
    { model: z.string() },
    null,
  );
}
