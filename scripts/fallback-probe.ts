/** Fallback probe: asks a model's fallback object what it holds; run by fallback-memory.ts in workerd. */

interface Env {
  FALLBACK: { getByName(model: string): { memory(): Promise<unknown> } };
}

export default {
  fetch: async (request: Request, env: Env) =>
    Response.json(await env.FALLBACK.getByName(new URL(request.url).pathname.slice(1)).memory()),
};
