/** Admin metrics: GET /metrics: what waits and who serves, for Prometheus and for what starts and stops workers. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin } from './admin-route.ts';
import { exposition, type Family, PROMETHEUS_HEADERS } from './prometheus.ts';
import type { ApiEnv } from './request.ts';

export interface QueueLoad {
  /** Jobs that no worker has yet. */
  waiting: number;
  /** Jobs that a worker has. */
  running: number;
  /** Connections of workers that take jobs. */
  workers: number;
  /** Jobs that those could take now. */
  freeSlots: number;
}
export type ModelLoad = QueueLoad & { model: string };

export function metricsAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describeAdmin(app, 'get', '/metrics', 'What waits and who serves, for Prometheus');
  app.get('/metrics', async (c) => c.body(exposition(families(await resolve(c).loads())), 200, PROMETHEUS_HEADERS));
  return app;
}

function families(loads: readonly ModelLoad[]): Family[] {
  const gauge = (name: string, help: string, value: (load: ModelLoad) => number): Family => ({
    name,
    type: 'gauge',
    help,
    samples: loads.map((load) => ({ labels: { model: load.model }, value: value(load) })),
  });
  return [
    gauge('nibble_queue_jobs', 'Jobs that wait or run', ({ waiting, running }) => waiting + running),
    gauge('nibble_queue_waiting', 'Jobs that no worker has yet', ({ waiting }) => waiting),
    gauge('nibble_queue_running', 'Jobs that a worker has', ({ running }) => running),
    gauge('nibble_workers', 'Connections of workers that take jobs', ({ workers }) => workers),
    gauge('nibble_worker_free_slots', 'Jobs that those could take now', ({ freeSlots }) => freeSlots),
  ];
}
