/** Routes: what a server without an edge tells about itself: TGI's /info and /metrics. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { ErrorBody, json, security } from '../../edge/api/openapi.ts';
import { exposition, type Family, PROMETHEUS_HEADERS } from '../../edge/api/prometheus.ts';
import { refuse } from '../../edge/api/refusal.ts';
import { type ApiEnv, authenticated, type Resolve } from '../../edge/api/request.ts';

const Info = z
  .object({
    model_id: z.string(),
    model_sha: z.string().nullable(),
    model_pipeline_tag: z.string().nullable(),
    max_concurrent_requests: z.int(),
    max_best_of: z.int(),
    max_stop_sequences: z.int(),
    max_input_tokens: z.int(),
    max_total_tokens: z.int(),
    validation_workers: z.int(),
    max_client_batch_size: z.int(),
    router: z.string(),
    version: z.string(),
    sha: z.string().nullable(),
    docker_label: z.string().nullable(),
  })
  .openapi('Info');
export type Info = z.infer<typeof Info>;

/** Both ask for the key where there is one, other than TGI's. */
export function ownRoutes(resolve: Resolve, info: Info, families: () => Family[]): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  const keyed = authenticated(resolve, refuse);
  const about = { method: 'get' as const, tags: ['Text Generation Inference'], security };
  const unauthorized = { 401: json('The key is wrong or missing', ErrorBody) };
  app.openAPIRegistry.registerPath({
    ...about,
    path: '/info',
    summary: 'Describe the model and the limits',
    responses: { 200: json('Both', Info), ...unauthorized },
  });
  app.openAPIRegistry.registerPath({
    ...about,
    path: '/metrics',
    summary: 'Measurements for Prometheus',
    responses: {
      200: { description: 'The measurements', content: { 'text/plain': { schema: z.string() } } },
      ...unauthorized,
    },
  });
  app.get('/info', keyed, (c) => c.json(info));
  app.get('/metrics', keyed, (c) => c.body(exposition(families()), 200, PROMETHEUS_HEADERS));
  return app;
}
