/** Retry: tries again what may succeed later, with growing pauses. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Pauses of at most 0.2, 0.4, 0.8, 1.6 and 3.2 s: a store that is away for longer is down. */
const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 200;

/**
 * Resolves to the first attempt's result that is one. An error for which `mayPass` is false is thrown at once, the last one with the
 * number of attempts. Pauses are random between half and all of their length, so that workers that failed together come back apart.
 */
export async function withRetries<Result>(
  attempt: () => Promise<Result>,
  mayPass: (error: unknown) => boolean,
  failed: (error: unknown, attempts: number) => Error | Promise<Error>,
): Promise<Result> {
  for (let attempts = 1; ; attempts++) {
    try {
      return await attempt();
    } catch (error) {
      if (attempts === ATTEMPTS || !mayPass(error)) throw await failed(error, attempts);
      await sleep(FIRST_PAUSE_MS * 2 ** (attempts - 1) * (0.5 + Math.random() / 2));
    }
  }
}
