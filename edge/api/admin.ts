/** Admin: accounts, credit, keys and prices, behind the root credential; an account's own admin key reaches its keys, usage and webhooks. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import type {
  AccountSettings,
  AccountView,
  Actor,
  AuditEntry,
  BucketQuery,
  BucketRow,
  Credit,
  Delivery,
  GroupBy,
  KeySettings,
  KeyView,
  Limits,
  LogPage,
  Placed,
  PriceVersion,
  RowQuery,
  UsageRow,
  Webhook,
  WebhookEvent,
} from './accounts.ts';
import { accountAdminRoutes } from './admin-accounts.ts';
import { bookAdminRoutes } from './admin-books.ts';
import { keyAdminRoutes } from './admin-keys.ts';
import { type ModelLoad, metricsAdminRoutes } from './admin-metrics.ts';
import { priceAdminRoutes } from './admin-prices.ts';
import { reportAdminRoutes } from './admin-report.ts';
import { describeAdmin, readBody } from './admin-route.ts';
import { webhookAdminRoutes } from './admin-webhooks.ts';
import type { LedgerPage, LedgerRow, Page, QueuePage } from './books.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, clientIpOf, schemaFailure } from './request.ts';
import type { Metered, Outcome } from './service.ts';

export interface ListedAccount {
  accountId: string;
  name: string;
  createdMs: number;
}

/** `effectiveFromMs: null`: from now. */
export type NewPrice = Omit<PriceVersion, 'effectiveFromMs'> & { effectiveFromMs: number | null };
export type ReportQuery = Omit<BucketQuery, 'groupBy'> & {
  groupBy: readonly (GroupBy | 'account')[];
  accounts: readonly string[] | null;
};
export type ReportSum = BucketRow & { accountId: string | null };
type NewAccount = Omit<AccountSettings, 'limits'> & { limits: Partial<Limits> };

/** What the admin routes do. */
export interface AdminService {
  /** Whether the credential is the root one or, for an account's own routes, a key of that account with the scope "admin". */
  authorize(
    authorization: string | undefined,
    clientIp: string | null,
    accountId: string | null,
  ): Promise<Metered<Actor>>;
  createAccount(settings: NewAccount, creditPico: bigint, actor: Actor): Promise<Outcome<AccountView>>;
  /** In the order they were opened, those after one. */
  accounts(after: string | null, limit: number): Promise<Outcome<ListedAccount[]>>;
  account(accountId: string): Promise<Outcome<AccountView>>;
  configure(accountId: string, changes: Partial<NewAccount>, actor: Actor): Promise<Outcome<AccountView>>;
  /** Once for a reference. */
  topUp(
    accountId: string,
    credit: { pico: bigint; reference: string | null; note: string | null },
    actor: Actor,
  ): Promise<Outcome<AccountView>>;
  /** Newest first. */
  credits(accountId: string, page: LogPage): Promise<Outcome<Placed<Credit>[]>>;
  auditLog(accountId: string, page: LogPage): Promise<Outcome<Placed<AuditEntry>[]>>;
  /** The key itself is in this answer and nowhere else. */
  createKey(accountId: string, settings: KeySettings, actor: Actor): Promise<Outcome<{ key: string; view: KeyView }>>;
  keys(accountId: string): Promise<Outcome<KeyView[]>>;
  updateKey(accountId: string, keyId: string, changes: Partial<KeySettings>, actor: Actor): Promise<Outcome<KeyView>>;
  /** A new secret for the same key; the old one ends after the overlap. */
  rotateKey(
    accountId: string,
    keyId: string,
    overlapMs: number,
    actor: Actor,
  ): Promise<Outcome<{ key: string; view: KeyView }>>;
  revokeKey(accountId: string, keyId: string, actor: Actor): Promise<Outcome<null>>;
  usage(accountId: string, query: RowQuery): Promise<Outcome<UsageRow[]>>;
  usageBuckets(accountId: string, query: BucketQuery): Promise<Outcome<BucketRow[]>>;
  /** The secret is in this answer and nowhere else. */
  createWebhook(
    accountId: string,
    webhook: { url: string; events: WebhookEvent[] },
    actor: Actor,
  ): Promise<Outcome<{ webhook: Webhook; secret: string }>>;
  webhooks(accountId: string): Promise<Outcome<Webhook[]>>;
  removeWebhook(accountId: string, webhookId: string, actor: Actor): Promise<Outcome<null>>;
  deliveries(accountId: string, webhookId: string, limit: number): Promise<Outcome<Delivery[]>>;
  /** Over all accounts, from the reporting copy, which is some seconds behind. */
  report(query: ReportQuery): Promise<Outcome<ReportSum[]>>;
  setPrice(model: string, promptMicroUsdPerMtok: number, completionMicroUsdPerMtok: number): Promise<Outcome<null>>;
  /** Anything but `never` needs a model that the edge's own fallback can run; why it cannot is an `invalid_request`. */
  setFallback(model: string, policy: FallbackPolicy): Promise<Outcome<null>>;
  addPrice(model: string, price: NewPrice): Promise<Outcome<PriceVersion>>;
  /** The oldest first. */
  prices(model: string): Promise<Outcome<PriceVersion[]>>;
  removeModel(model: string): Promise<Outcome<null>>;
  /** Of every model that is known. */
  loads(): Promise<ModelLoad[]>;
  /** In the order of arrival. */
  queueJobs(model: string, shard: number, page: Page): Promise<Outcome<QueuePage>>;
  /** The oldest row first. */
  ledger(accountId: string, page: Page): Promise<Outcome<LedgerPage>>;
  /** The reporting copy's rows of one account, in the ledger's order. */
  exported(accountId: string, page: Page): Promise<Outcome<LedgerRow[]>>;
  /** Feeds the reporting copy again with the rows after a place. `last`: the ledger's last row. */
  exportAgain(accountId: string, after: number, actor: Actor): Promise<Outcome<{ last: number }>>;
}
export type ResolveAdmin = (c: Context) => AdminService;

const name = z.string().min(1).max(200);
/** $1,000 per million tokens, as in the ledger's prices. */
const price = z.int().min(0).max(1_000_000_000);
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
/** What an account's own administrator reaches; all else is the operator's. */
const OWN_ROUTE = /^\/admin\/accounts\/([0-9A-Za-z]{12})(\/(keys|usage|usage\.csv|audit|credits|webhooks)(\/|$)|$)/;

export function adminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describe(app);
  for (const path of ['/admin/*', '/metrics']) app.use(path, administrators(resolve));
  app.route('/', accountAdminRoutes(resolve));
  app.route('/', keyAdminRoutes(resolve));
  app.route('/', priceAdminRoutes(resolve));
  app.route('/', webhookAdminRoutes(resolve));
  app.route('/', reportAdminRoutes(resolve));
  app.route('/', metricsAdminRoutes(resolve));
  app.route('/', bookAdminRoutes(resolve));
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

/** One guard for every admin route: what is not an account's own is the operator's. Credit is added by the operator alone. */
function administrators(resolve: ResolveAdmin): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const [, accountId, below] = OWN_ROUTE.exec(c.req.path) ?? [];
    const reads = c.req.method === 'GET' || c.req.method === 'HEAD';
    const own = accountId !== undefined && (reads || (below !== '' && below !== '/credits')) ? accountId : null;
    const authorized = await resolve(c).authorize(c.req.header('authorization'), clientIpOf(c), own);
    for (const [header, value] of Object.entries(authorized.headers)) c.header(header, value);
    if (!authorized.ok) return refuse(c, authorized.failure);
    c.set('actor', authorized.value);
    await next();
  };
}

/** The routes for the OpenAPI page. */
function describe(app: OpenAPIHono<ApiEnv>): void {
  describeAdmin(
    app,
    'put',
    '/admin/models/{model}',
    'Set the price of a model from now on, and whether the edge may answer for it',
    ModelBody,
  );
  describeAdmin(app, 'delete', '/admin/models/{model}', 'Forget a model, its prices and its fallback');
}
