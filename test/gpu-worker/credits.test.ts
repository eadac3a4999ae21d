/** Credits: however messages cross, the queues together never give more leases than the worker has slots, and none keeps what another needs. */
import { expect, test } from 'vitest';
import { uniform } from '../../core/engine/random.ts';
import { Credits, type Told } from '../../gpu-worker/credits.ts';

/** A queue as this worker sees it: messages each way arrive in order, some time later. */
interface Queue {
  linked: boolean;
  credits: number;
  waiting: number;
  given: number;
  toQueue: ({ type: 'hello' | 'credits'; credits: number } | { type: 'end' })[];
  toWorker: ({ type: 'welcome' } | { type: 'credits' } | { type: 'lease' } | { type: 'demand'; waiting: number })[];
  running: number;
}

class World {
  readonly queues: Queue[];
  readonly credits: Credits;
  readonly #slots: number;

  constructor(shards: number, slots: number) {
    this.#slots = slots;
    this.credits = new Credits(slots);
    const empty = { linked: false, credits: 0, waiting: 0, given: 0, running: 0 };
    this.queues = Array.from({ length: shards }, () => ({ ...empty, toQueue: [], toWorker: [] }));
    for (const shard of this.queues.keys()) this.dial(shard);
  }

  dial(shard: number): void {
    this.queues[shard]!.toQueue.push({ type: 'hello', credits: this.credits.hello(shard) });
  }

  /** What is on its way is lost; what runs goes on and is kept by the queue. */
  cut(shard: number): void {
    const queue = this.queues[shard]!;
    Object.assign(queue, { linked: false, credits: 0, given: queue.running, toQueue: [], toWorker: [] });
    this.tell(this.credits.lost(shard));
    this.dial(shard);
  }

  tell(told: readonly Told[]): void {
    for (const { shard, credits } of told) this.queues[shard]!.toQueue.push({ type: 'credits', credits });
  }

  queueReads(queue: Queue): void {
    const message = queue.toQueue.shift();
    if (message === undefined) return;
    if (message.type === 'end') queue.given -= 1;
    else {
      queue.credits = message.credits;
      queue.linked = true;
      queue.toWorker.push(message.type === 'hello' ? { type: 'welcome' } : { type: 'credits' });
    }
    this.give(queue);
  }

  give(queue: Queue): void {
    while (queue.linked && queue.waiting > 0 && queue.given < queue.credits) {
      queue.waiting -= 1;
      queue.given += 1;
      queue.toWorker.push({ type: 'lease' });
    }
    if (queue.linked) queue.toWorker.push({ type: 'demand', waiting: queue.waiting });
  }

  workerReads(shard: number): void {
    const queue = this.queues[shard]!;
    const message = queue.toWorker.shift();
    if (message === undefined) return;
    switch (message.type) {
      case 'welcome':
        this.tell(this.credits.linked(shard));
        break;
      case 'credits':
        this.tell(this.credits.answered(shard));
        break;
      case 'demand':
        this.tell(this.credits.demanded(shard, message.waiting));
        break;
      case 'lease':
        queue.running += 1;
        this.tell(this.credits.running(shard, queue.running));
        expect(this.running).toBeLessThanOrEqual(this.#slots);
    }
  }

  end(shard: number): void {
    const queue = this.queues[shard]!;
    if (queue.running === 0) return;
    queue.running -= 1;
    queue.toQueue.push({ type: 'end' });
    this.tell(this.credits.running(shard, queue.running));
  }

  get running(): number {
    return this.queues.reduce((sum, { running }) => sum + running, 0);
  }

  settle(): void {
    for (let still = 0; still < 3; ) {
      still = this.queues.every(({ toQueue, toWorker }) => toQueue.length + toWorker.length === 0) ? still + 1 : 0;
      for (const [shard, queue] of this.queues.entries()) {
        this.queueReads(queue);
        this.workerReads(shard);
      }
    }
  }
}

test('in random worlds the slots are never exceeded, and in the end every job that can run does', () => {
  let draw = 0;
  const below = (n: number) => Math.floor(uniform(13, draw++) * n);
  for (let round = 0; round < 300; round++) {
    const shards = 1 + below(4);
    const slots = 1 + below(8);
    const world = new World(shards, slots);
    for (let step = 0; step < 300; step++) {
      const shard = below(shards);
      const queue = world.queues[shard]!;
      const event = below(12);
      if (event < 4) world.queueReads(queue);
      else if (event < 8) world.workerReads(shard);
      else if (event < 9) {
        queue.waiting += 1 + below(3);
        world.give(queue);
      } else if (event < 11) world.end(shard);
      else if (below(10) === 0) world.cut(shard);
    }
    world.settle();
    const waiting = world.queues.reduce((sum, queue) => sum + queue.waiting, 0);
    if (waiting > 0) expect(world.running, `${shards} shards, ${slots} slots, ${waiting} waiting`).toBe(slots);
    for (let ends = 0; ends < 400; ends++) {
      world.end(below(shards));
      world.settle();
    }
    expect(world.queues.reduce((sum, queue) => sum + queue.waiting, 0)).toBe(0);
  }
});

test('one queue has all; of two idle ones each has half, and a busy one takes the rest of the other', () => {
  const world = new World(1, 8);
  world.settle();
  expect(world.queues.map(({ credits }) => credits)).toEqual([8]);
  const two = new World(2, 8);
  two.settle();
  expect(two.queues.map(({ credits }) => credits)).toEqual([4, 4]);
  two.queues[1]!.waiting = 20;
  two.give(two.queues[1]!);
  two.settle();
  expect(two.queues.map(({ credits }) => credits)).toEqual([0, 8]);
  two.queues[0]!.waiting = 1;
  two.give(two.queues[0]!);
  two.settle();
  two.end(1);
  two.settle();
  expect(two.queues.map(({ running }) => running)).toEqual([1, 7]);
});
