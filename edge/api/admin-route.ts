/** Admin route: what every admin route does: read its body by a schema, and put itself on the OpenAPI page. */
import { type OpenAPIHono, z } from '@hono/zod-openapi';
import { ErrorBody, json, security } from './openapi.ts';
import { type ApiContext, type ApiEnv, readJson, schemaFailure } from './request.ts';
import type { Outcome } from './service.ts';

export async function readBody<Schema extends z.ZodType>(
  c: ApiContext,
  schema: Schema,
): Promise<Outcome<z.output<Schema>>> {
  const body = await readJson(c.req.raw);
  if (!body.ok) return body;
  const parsed = schema.safeParse(body.value);
  return parsed.success
    ? { ok: true, value: parsed.data }
    : { ok: false, failure: schemaFailure(parsed.error as z.ZodError) };
}

/** Puts an admin route on the OpenAPI page. */
export function describeAdmin(
  app: OpenAPIHono<ApiEnv>,
  method: 'get' | 'post' | 'put' | 'patch' | 'delete',
  path: string,
  summary: string,
  body: z.ZodType | null = null,
): void {
  const params = [...path.matchAll(/\{(\w+)\}/g)].map(([, param]) => [param!, z.string()] as const);
  app.openAPIRegistry.registerPath({
    method,
    path,
    summary,
    tags: ['Admin'],
    security,
    request: {
      params: z.object(Object.fromEntries(params)),
      ...(body !== null && { body: { required: true, content: { 'application/json': { schema: body } } } }),
    },
    responses: {
      200: { description: 'Done' },
      401: json('Not an admin credential', ErrorBody),
      403: json('The key is not for this', ErrorBody),
      404: json('Not there', ErrorBody),
    },
  });
}
