/** Faults: what tests do to the objects of a queue: its clock jumps, its instance dies. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { vi } from 'vitest';
import type { ModelCard } from '../../../core/protocol.ts';
import { queueOf } from '../edge-under-test.ts';

/** Lets the clock of the objects, which share this isolate, jump. Call `vi.useRealTimers` after the test. */
export function jump(milliseconds: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + milliseconds });
}

/** The clock jumps and the queue looks at it. */
export async function pass(model: ModelCard, milliseconds: number): Promise<void> {
  jump(milliseconds);
  await runDurableObjectAlarm(queueOf(model));
}

/** Ends the instance as a crash does: memory and sockets are gone, storage stays. */
export async function crash(model: ModelCard): Promise<void> {
  await runInDurableObject(queueOf(model), (_, state) => state.abort('crash')).catch(() => undefined);
}

/** Resolves when the queue has seen that no job of it is leased. */
export async function untilNoLease(model: ModelCard): Promise<void> {
  const query = 'SELECT COUNT(*) AS count FROM job WHERE socket_id IS NOT NULL';
  await vi.waitFor(async () => {
    const count = await runInDurableObject(
      queueOf(model),
      (_, state) => state.storage.sql.exec<{ count: number }>(query).one().count,
    );
    if (count > 0) throw new Error(`${count} jobs are leased`);
  });
}
