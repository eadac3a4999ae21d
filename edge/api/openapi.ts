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

/** Of every request that makes a job: docs/streams.md. */
export const RETRY_HEADERS = z.object({
  'idempotency-key': z.string().min(1).max(255).optional().openapi({
    description:
      'Visible ASCII. The request is run and billed once under this key, for 24 hours; a repetition gets the same answer, also while it is being generated.',
  }),
  'last-event-id': z.string().optional().openapi({
    description: 'With the Idempotency-Key of a stream: only the events after the one of this id.',
    example: '17',
  }),
});

/** What a retry may be told, in the error shape of its surface. */
export const retryResponses = (error: z.ZodType) => ({
  409: json('The Idempotency-Key stands for another request, or its first request is still on its way', error),
  410: json('There is no answer under this Idempotency-Key any more', error),
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
    request: { headers: RETRY_HEADERS, body: { required: true, content: { 'application/json': { schema: request } } } },
    responses: {
      200: jsonOrEvents('The answer', answer),
      400: json('A field is wrong or not supported yet; `param` names it', ErrorBody),
      401: json('The key is wrong or missing', ErrorBody),
      402: json('The account has not enough budget', ErrorBody),
      404: json('There is no such model', ErrorBody),
      ...retryResponses(ErrorBody),
      413: json('The body is too large', ErrorBody),
      429: json('A limit is reached or the queue is full; see retry-after', ErrorBody),
      503: json('No worker took the request in time; see retry-after', ErrorBody),
    },
  };
}
