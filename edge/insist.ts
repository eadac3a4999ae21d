/** Insist: asks a Durable Object again that gave no answer. For calls that come to the same however often they are made. */

/** A crashed object is back in milliseconds; a client waits meanwhile. */
const RETRY_MS: readonly number[] = [50, 250, 1_000, 2_500];

/** `call` takes a new stub each time: one whose object crashed stays broken. Throws what the last try threw. */
export async function insist<Value>(name: string, call: () => Promise<Value>): Promise<Value> {
  for (const delayMs of RETRY_MS) {
    try {
      return await call();
    } catch (error) {
      console.warn({ event: 'object_did_not_answer', name, error: String(error) });
      await scheduler.wait(delayMs);
    }
  }
  return call();
}
