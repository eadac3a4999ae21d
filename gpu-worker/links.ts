/** Links: a worker's connections to all queues of its model. How many there are the first one says. */
import type { NibbleError } from '../core/errors.ts';
import type { Frame, Job } from '../core/protocol.ts';
import { Credits, type Told } from './credits.ts';
import { Link, type LinkOptions } from './link.ts';

export interface LinksHandlers {
  onLease(job: Job, epoch: number, emittedIds: readonly number[]): void;
  /** The lease is void: stop within one step. */
  onCancel(jobId: string): void;
  /** Every queue is linked, for the first time or again. */
  onLinked(): void;
  /** The edge will not have this worker; trying again is useless. */
  onRefused(error: NibbleError): void;
}

export class Links {
  readonly #options: Omit<LinkOptions, 'shard'>;
  readonly #handlers: LinksHandlers;
  readonly #credits: Credits;
  readonly #links: Link[] = [];
  /** Shard of each job that was leased here. */
  readonly #shards = new Map<string, number>();
  #draining = false;

  /** `slots`: leases that the worker runs at once, over all links together. */
  constructor(options: Omit<LinkOptions, 'shard'>, slots: number, handlers: LinksHandlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#credits = new Credits(slots);
  }

  connect(): void {
    this.#open(0);
  }

  /** Frames of one step; each goes to the queue that its job is from. */
  send(frames: Frame[]): void {
    for (const [shard, own] of Map.groupBy(frames, ({ jobId }) => this.#shards.get(jobId))) {
      if (shard === undefined) continue;
      this.#links[shard]!.send(own);
      this.#count(shard);
    }
  }

  /** No new leases from now on. */
  drain(): void {
    this.#draining = true;
    for (const link of this.#links) link.drain();
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  #open(shard: number): void {
    const link = new Link(
      { ...this.#options, shard },
      {
        creditsOfHello: () => (this.#draining ? 0 : this.#credits.hello(shard)),
        onLease: (job, epoch, emittedIds) => {
          this.#shards.set(job.id, shard);
          this.#count(shard);
          this.#handlers.onLease(job, epoch, emittedIds);
        },
        onCancel: (jobId) => {
          this.#handlers.onCancel(jobId);
          this.#count(shard);
        },
        onForgotten: (jobId) => {
          if (this.#shards.get(jobId) === shard) this.#shards.delete(jobId);
        },
        onLinked: (shards) => {
          for (let other = this.#links.length; other < shards; other++) this.#open(other);
          this.#tell(this.#credits.linked(shard));
          if (this.#links.every(({ linked }) => linked)) this.#handlers.onLinked();
        },
        onLost: () => this.#tell(this.#credits.lost(shard)),
        onCredits: () => this.#tell(this.#credits.answered(shard)),
        onDemand: (waiting) => this.#tell(this.#credits.demanded(shard, waiting)),
        onRefused: (error) => this.#handlers.onRefused(error),
      },
    );
    this.#links[shard] = link;
    link.connect();
  }

  #count(shard: number): void {
    this.#tell(this.#credits.running(shard, this.#links[shard]!.numRunning));
  }

  #tell(told: readonly Told[]): void {
    if (this.#draining) return;
    for (const { shard, credits } of told) this.#links[shard]!.grant(credits);
  }
}
