/** App: every client-facing surface behind one id, one error shape and one CORS policy. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { cors } from 'hono/cors';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { failureOf } from '../../core/errors.ts';
import { accountRoutes } from './account.ts';
import { chatRoutes } from './chat.ts';
import { completionRoutes } from './completions.ts';
import { docsPage } from './docs.ts';
import { healthHandler, type IsHealthy } from './health.ts';
import { modelRoutes } from './models.ts';
import { API_DOCUMENT, BEARER } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, nameRequest, type Resolve } from './request.ts';
import { tgiRoutes } from './tgi.ts';

/** What a script in a browser may read of an answer. */
const EXPOSED_HEADERS = [
  'x-request-id',
  'x-nibble-backend',
  'x-nibble-cost-usd',
  'retry-after',
  'idempotent-replayed',
  'x-ratelimit-limit-requests',
  'x-ratelimit-limit-tokens',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-requests',
  'x-ratelimit-reset-tokens',
];

/** The app, to be served as it is or given further routes. `resolve` names the service behind a request; `isHealthy` is asked by /health. */
export function createApi(resolve: Resolve, isHealthy: IsHealthy = async () => true): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  app.use(async (c, next) => {
    nameRequest(c, crypto.randomUUID());
    await next();
  });
  // Any request header is allowed, since OpenAI's client adds its own; a key is never sent by a browser unasked.
  app.use(cors({ origin: '*', allowMethods: ['GET', 'POST'], exposeHeaders: EXPOSED_HEADERS }));
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        c.header('allow', methods.join(', '));
        return refuse(c, { code: 'method_not_allowed' });
      },
    }),
  );
  app.onError((error, c) => refuse(c, failureOf(error)));
  app.notFound((c) => refuse(c, { code: 'route_not_found' }));

  const health = healthHandler(isHealthy);
  app.get('/health', health);
  // TGI's health, for clients that ask the root.
  app.get('/', health);
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', BEARER);
  app.route('/', chatRoutes(resolve));
  app.route('/', completionRoutes(resolve));
  app.route('/', modelRoutes(resolve));
  app.route('/', tgiRoutes(resolve));
  app.route('/', accountRoutes(resolve));
  app.get('/openapi.json', (c) => c.json(app.getOpenAPI31Document(API_DOCUMENT)));
  app.get('/docs', (c) => c.html(docsPage(app.getOpenAPI31Document(API_DOCUMENT), new URL(c.req.url).origin)));
  return app;
}
