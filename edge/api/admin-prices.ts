/** Admin prices: the price book of each model, by the moment from which a price holds. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { name, seconds } from './account-body.ts';
import type { PriceVersion } from './accounts.ts';
import type { ResolveAdmin } from './admin.ts';
import { describeAdmin, readBody } from './admin-route.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, schemaFailure } from './request.ts';

/** $1,000 per million tokens, and $1,000 a request. */
const price = z.int().min(0).max(1_000_000_000);
const PriceBody = z.strictObject({
  model: name,
  prompt_micro_usd_per_mtok: price,
  completion_micro_usd_per_mtok: price,
  cached_prompt_micro_usd_per_mtok: price.optional().openapi({ description: 'Absent: as other prompt tokens.' }),
  request_micro_usd: price.optional().openapi({ description: 'Micro-USD a request, once. Absent: nothing.' }),
  effective_from: z.int().min(1).optional().openapi({ description: 'Unix seconds. Absent: from now.' }),
});
const PriceQuery = z.object({ model: name });

function priceBody(version: PriceVersion) {
  return {
    prompt_micro_usd_per_mtok: version.promptMicroUsdPerMtok,
    completion_micro_usd_per_mtok: version.completionMicroUsdPerMtok,
    cached_prompt_micro_usd_per_mtok: version.cachedPromptMicroUsdPerMtok ?? version.promptMicroUsdPerMtok,
    request_micro_usd: version.requestMicroUsd ?? 0,
    effective_from: seconds(version.effectiveFromMs),
  };
}

export function priceAdminRoutes(resolve: ResolveAdmin): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  describeAdmin(app, 'post', '/admin/prices', 'Set the price of a model from now or from a later moment on', PriceBody);
  describeAdmin(app, 'get', '/admin/prices', 'List the prices of a model, the oldest first');
  app.post('/admin/prices', async (c) => {
    const body = await readBody(c, PriceBody);
    if (!body.ok) return refuse(c, body.failure);
    const { model, cached_prompt_micro_usd_per_mtok: cached, request_micro_usd: request, effective_from } = body.value;
    const set = await resolve(c).addPrice(model, {
      promptMicroUsdPerMtok: body.value.prompt_micro_usd_per_mtok,
      completionMicroUsdPerMtok: body.value.completion_micro_usd_per_mtok,
      ...(cached !== undefined && { cachedPromptMicroUsdPerMtok: cached }),
      ...(request !== undefined && { requestMicroUsd: request }),
      effectiveFromMs: effective_from === undefined ? null : effective_from * 1000,
    });
    return set.ok ? c.json({ model, ...priceBody(set.value) }, 201) : refuse(c, set.failure);
  });
  app.get('/admin/prices', async (c) => {
    const query = PriceQuery.safeParse(c.req.query());
    if (!query.success) return refuse(c, schemaFailure(query.error));
    const prices = await resolve(c).prices(query.data.model);
    return prices.ok ? c.json({ object: 'list', data: prices.value.map(priceBody) }) : refuse(c, prices.failure);
  });
  return app;
}
