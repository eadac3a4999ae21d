/** Models: GET /v1/models and /v1/models/{id}. */
import { OpenAPIHono, z } from '@hono/zod-openapi';
import type { ModelCard } from '../../core/protocol.ts';
import { ErrorBody, json, security } from './openapi.ts';
import { refuse } from './refusal.ts';
import { type ApiEnv, authenticated, metered, type Resolve } from './request.ts';

const Model = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: z.int().openapi({ description: '0: unknown, as TGI answers.' }),
    owned_by: z.string(),
    context_length: z.int(),
    architecture: z.string(),
    quantization: z.string().nullable(),
    parameters: z.int(),
  })
  .openapi('Model');
const ModelList = z
  .object({ object: z.literal('list'), data: z.array(Model).openapi({ description: 'The default model first.' }) })
  .openapi('ModelList');

function modelBody(card: ModelCard): z.infer<typeof Model> {
  return {
    id: card.id,
    object: 'model',
    created: 0,
    owned_by: 'nibble',
    context_length: card.contextTokens,
    architecture: card.architecture,
    quantization: card.quantization,
    parameters: card.parameters,
  };
}

export function modelRoutes(resolve: Resolve): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>();
  const keyed = authenticated(resolve, refuse);
  const about = { method: 'get' as const, tags: ['OpenAI'], security };
  app.openAPIRegistry.registerPath({
    ...about,
    path: '/v1/models',
    summary: 'List the models',
    responses: { 200: json('The models', ModelList), 401: json('The key is wrong or missing', ErrorBody) },
  });
  app.openAPIRegistry.registerPath({
    ...about,
    path: '/v1/models/{id}',
    summary: 'Describe one model',
    request: { params: z.object({ id: z.string() }) },
    responses: { 200: json('The model', Model), 404: json('There is no such model', ErrorBody) },
  });
  app.get('/v1/models', keyed, async (c) => {
    const cards = metered(c, await c.var.service.models(c.var.caller));
    return cards.ok ? c.json({ object: 'list', data: cards.value.map(modelBody) }) : refuse(c, cards.failure);
  });
  // Hub ids have a slash, which clients send encoded or as it is.
  app.get('/v1/models/:id{.+}', keyed, async (c) => {
    const id = c.req.param('id');
    const cards = metered(c, await c.var.service.models(c.var.caller));
    if (!cards.ok) return refuse(c, cards.failure);
    const card = cards.value.find((candidate) => candidate.id === id);
    return card ? c.json(modelBody(card)) : refuse(c, { code: 'model_not_found', model: id });
  });
  return app;
}
