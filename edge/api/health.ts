/** Health: whether the server can answer, as TGI says it. Needs no key. */
import type { Context } from 'hono';

/** Whether requests would be answered now. */
export type IsHealthy = () => Promise<boolean>;

export function healthHandler(isHealthy: IsHealthy): (c: Context) => Promise<Response> {
  return async (c) =>
    (await isHealthy()) ? c.body(null, 200) : c.json({ error: 'unhealthy', error_type: 'healthcheck' }, 503);
}
