/** Fallback: the entry of the script that holds one tiny model and answers when no worker does. Reached by its binding only. */
export { FallbackObject } from './object.ts';

export default {
  fetch: () => new Response(null, { status: 404 }),
} satisfies ExportedHandler;
