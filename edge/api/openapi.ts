/** OpenAPI: what the routes' descriptions share, and the document's own fields. */
import { type createRoute, z } from '@hono/zod-openapi';

type Path = Parameters<typeof createRoute>[0];

export const API_DOCUMENT = {
  openapi: '3.1.0',
  info: {
    title: 'Nibble',
    version: '1',
    description:
      'Quantized language models behind the OpenAI and the Text Generation Inference API, metered per token.',
  },
};
export const BEARER = { type: 'http', scheme: 'bearer' } as const;
export const security = [{ bearer: [] }];

export const ErrorBody = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string().nullable(),
    }),
  })
  .openapi('Error');

export const json = (description: string, schema: z.ZodType) => ({
  description,
  content: { 'application/json': { schema } },
});

const eventStreamText = z.string().openapi({ description: 'Server-sent events' });
/** A route that answers at once or, with `stream`, as server-sent events. */
export const jsonOrEvents = (description: string, schema: z.ZodType) => ({
  description,
  content: { 'application/json': { schema }, 'text/event-stream': { schema: eventStreamText } },
});

export function completionPath(path: string, summary: string, request: z.ZodType, answer: z.ZodType): Path {
  return {
    method: 'post',
    path,
    summary,
    tags: ['OpenAI'],
    security,
    request: { body: { required: true, content: { 'application/json': { schema: request } } } },
    responses: {
      200: jsonOrEvents('The answer', answer),
      400: json('A field is wrong or not supported yet; `param` names it', ErrorBody),
      401: json('The key is wrong or missing', ErrorBody),
      402: json('The account has not enough budget', ErrorBody),
      404: json('There is no such model', ErrorBody),
      413: json('The body is too large', ErrorBody),
      429: json('A limit is reached or the queue is full; see retry-after', ErrorBody),
      503: json('No worker took the request in time; see retry-after', ErrorBody),
    },
  };
}
