/** Edge: the Worker's entry. Client and admin surfaces, the workers' link, and the Durable Object classes. */
import { EdgeAdmin } from './admin-service.ts';
import { adminRoutes } from './api/admin.ts';
import { createApi } from './api/app.ts';
import { linkRoute } from './api/link.ts';
import { KeyRing } from './auth.ts';
import { CardCache } from './catalog/cache.ts';
import { EdgeService } from './edge-service.ts';
import type { Env } from './env.ts';
import { checkVariables } from './env.ts';
import { EdgeLink } from './link-service.ts';
import type { ReportMessage } from './report/message.ts';
import { Report } from './report/report.ts';
import { logRequest } from './request-log.ts';

export { CatalogObject } from './catalog/object.ts';
export { DirectoryObject } from './directory/object.ts';
export { AccountObject } from './ledger/object.ts';
export { QueueObject } from './queue/object.ts';

/** What an isolate keeps between requests: imported signing keys and the cards of a moment. Made again when the bindings change. */
class Edge {
  readonly service: EdgeService;
  readonly admin: EdgeAdmin;
  readonly link: EdgeLink;

  constructor(env: Env) {
    checkVariables(env);
    const keys = new KeyRing(env.KEY_SECRETS);
    const cards = new CardCache(env);
    this.service = new EdgeService(env, keys, cards);
    this.admin = new EdgeAdmin(env, keys, cards);
    this.link = new EdgeLink(env, keys);
  }
}

const edges = new WeakMap<object, Edge>();

/** Throws `not_configured` when a secret is missing or a variable wrong: the request that needs it answers 503, and /health still works. */
function edgeOf(env: object): Edge {
  let edge = edges.get(env);
  if (edge === undefined) {
    edge = new Edge(env as Env);
    edges.set(env, edge);
  }
  return edge;
}

const api = createApi((c) => edgeOf(c.env).service);
api.route(
  '/',
  adminRoutes((c) => edgeOf(c.env).admin),
);
const link = linkRoute((c) => edgeOf(c.env).link);

export default {
  // An upgraded response must not pass the API's middleware, which sets headers on it.
  async fetch(request, env, ctx) {
    const startMs = Date.now();
    const response = await (new URL(request.url).pathname === '/link' ? link : api).fetch(request, env, ctx);
    logRequest(request, response, Date.now() - startMs);
    return response;
  },
  /** Rows of the ledgers, for the reporting copy; a batch that fails comes again. */
  async queue(batch, env) {
    if (env.REPORTS === undefined) throw new Error('there is no D1 database bound as REPORTS');
    await new Report(env.REPORTS).accept(batch.messages.map(({ body }) => body));
  },
} satisfies ExportedHandler<Env, ReportMessage>;
