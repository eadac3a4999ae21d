/** Shards: a model's queue objects, and which of them a job goes to: the less loaded of two, by what they said lately. */

/** Header of a queue's replies: jobs that wait there less places that are free. */
export const LOAD = 'x-nibble-load';
/** What was said so long ago says nothing: that shard is as good as any. */
const FORGET_MS = 10_000;
/** Queues remembered by an isolate; a hundred models of ten shards. */
const MAX_REMEMBERED = 1_000;

/** The name of the object that is a model's queue, or one of them. */
export function queueName(model: string, shard = 0): string {
  return `${model}#${shard}`;
}

/**
 * Two random shards, and the less loaded of them (Mitzenmacher, "The power of two choices in randomized load balancing", 2001: as good as
 * asking all, without the herd that follows one least loaded). `random` is uniform in [0, 1).
 */
export function chooseShard(shards: number, loadOf: (shard: number) => number, random: () => number): number {
  if (shards === 1) return 0;
  const one = Math.floor(random() * shards);
  const other = (one + 1 + Math.floor(random() * (shards - 1))) % shards;
  return loadOf(other) < loadOf(one) ? other : one;
}

/** What queues said of their load, by name. */
export class Loads {
  readonly #said = new Map<string, { load: number; atMs: number }>();

  note(queue: string, load: number, nowMs: number): void {
    this.#said.delete(queue);
    this.#said.set(queue, { load, atMs: nowMs });
    if (this.#said.size > MAX_REMEMBERED) this.#said.delete(this.#said.keys().next().value!);
  }

  /** 0 when nothing is known. */
  of(queue: string, nowMs: number): number {
    const said = this.#said.get(queue);
    return said === undefined || nowMs - said.atMs > FORGET_MS ? 0 : said.load;
  }
}
