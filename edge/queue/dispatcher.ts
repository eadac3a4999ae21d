/** Dispatcher: the life of every job in one queue object, from submission over leases and frames to its end and settlement. */
import type { Frame, HeldLease } from '../../core/protocol.ts';
import type { QueueLoad } from '../api/admin-metrics.ts';
import type { JobEvent, Outcome } from '../api/service.ts';
import type { Grant } from '../ledger/grant.ts';
import { Booking } from './booking.ts';
import { Demand } from './demand.ts';
import type { LiveJob } from './job.ts';
import { acceptedTokens, isWanted, newJob } from './job.ts';
import { LiveJobs } from './live-jobs.ts';
import { Losses } from './losses.ts';
import type { Outbox } from './outbox.ts';
import {
  assign,
  CHECKPOINT_MS,
  eligible,
  type FallbackPolicy,
  KEEP_ENDED_MS,
  LEASE_MS,
  lacksFallback,
  MAX_READERS,
  noCapacity,
  overdue,
  REATTACH_MS,
  refusalOf,
} from './policy.ts';
import type { Place, ReaderLoad } from './reader.ts';
import { EventReader } from './reader.ts';
import { Receiver } from './receiver.ts';
import { Shares } from './shares.ts';
import type { Connection, Sockets } from './sockets.ts';
import type { QueueStore } from './store.ts';
import { MAX_BODY_BYTES } from './store.ts';

export class Dispatcher {
  readonly #jobs = new LiveJobs();
  readonly #shares = new Shares();
  readonly #store: QueueStore;
  readonly #sockets: Sockets;
  readonly #booking: Booking;
  readonly #losses: Losses;
  readonly #receiver: Receiver;
  readonly #demand: Demand;
  readonly #wantFallback: (model: string) => void;
  #policy: FallbackPolicy;

  /** `wantFallback` is called when a job waits that only the fallback may take, and it is not connected. */
  constructor(store: QueueStore, sockets: Sockets, outbox: Outbox, wantFallback: (model: string) => void) {
    this.#store = store;
    this.#sockets = sockets;
    this.#booking = new Booking(this.#jobs, store, sockets, outbox);
    this.#losses = new Losses(this.#jobs, store, sockets, this.#booking);
    this.#receiver = new Receiver(this.#jobs, this.#booking, this.#losses);
    this.#demand = new Demand(sockets);
    this.#wantFallback = wantFallback;
    this.#policy = store.fallbackPolicy();
  }

  get idle(): boolean {
    return this.size === 0;
  }

  /** Jobs that live, or are still read. */
  get size(): number {
    return this.#jobs.size;
  }

  /** What there is to do and who is there to do it. The fallback is no worker. */
  tally(): QueueLoad {
    const seats = this.#sockets.seats(Date.now()).filter((seat) => seat.kind === 'worker');
    return {
      waiting: this.#jobs.waiting.length,
      running: [...this.#jobs.values()].filter((job) => job.lease !== null).length,
      workers: seats.length,
      freeSlots: seats.reduce((sum, seat) => sum + Math.max(0, seat.free), 0),
    };
  }

  /** Jobs that wait less places that are free. */
  get backlog(): number {
    const seats = eligible(this.#sockets.seats(Date.now()), this.#policy);
    return this.#jobs.waiting.length - seats.reduce((sum, { free }) => sum + Math.max(0, free), 0);
  }

  /** Takes over from an instance that was evicted or crashed. */
  restore(): void {
    this.#losses.restore();
  }

  /** `policy` is the model's, and holds from now on for all that waits. */
  submit(grant: Grant, body: string, policy: FallbackPolicy, depth: number): Outcome<null> {
    const nowMs = Date.now();
    // The edge sends a job again when no answer came: it is one job by its id, however often it is sent.
    if (this.#store.known([grant.jobId]).length > 0) return { ok: true, value: null };
    if (grant.expiresMs <= nowMs) return { ok: false, failure: { code: 'grant_expired' } };
    if (body.length > MAX_BODY_BYTES || new TextEncoder().encode(body).byteLength > MAX_BODY_BYTES)
      return { ok: false, failure: { code: 'body_too_large', limitBytes: MAX_BODY_BYTES } };
    if (policy !== this.#policy) this.#store.setFallbackPolicy(policy);
    this.#policy = policy;
    const numFree = eligible(this.#sockets.seats(nowMs), policy).reduce((sum, seat) => sum + Math.max(0, seat.free), 0);
    const refusal = refusalOf(this.#jobs.waiting.length, numFree, depth);
    if (refusal !== null) return { ok: false, failure: refusal };
    const job = newJob(grant, this.#store.insert(grant, body, nowMs), nowMs);
    this.#jobs.keep(job);
    this.#jobs.enqueue(job);
    return { ok: true, value: null };
  }

  /** A stream of the job's events from its `fromToken`-th token, beside those of its other readers. */
  read(jobId: string, fromToken: number): Outcome<EventReader> {
    const nowMs = Date.now();
    const job = this.#jobs.get(jobId) ?? this.#store.find(jobId, nowMs);
    if (job === null) return { ok: false, failure: { code: 'job_not_found' } };
    for (const reader of job.readers) if (reader.closed) job.readers.delete(reader);
    if (job.readers.size >= MAX_READERS)
      return { ok: false, failure: { code: 'rate_limited', limit: 'concurrency', retryAfterS: 2 } };
    this.#jobs.keep(job);
    const next = (place: Place) => this.#eventAfter(job, place);
    const reader = new EventReader(next, fromToken, () => this.leave(jobId, reader), nowMs);
    job.readers.add(reader);
    this.dispatch();
    return { ok: true, value: reader };
  }

  /** Those that still have something to come. */
  readers(): ReaderLoad[] {
    return [...this.#jobs.values()].flatMap((job) =>
      [...job.readers].filter((reader) => !reader.closed).map((reader) => reader.load(job.id)),
    );
  }

  /** A reader went away: its job is cancelled, unless somebody else waits for it. */
  leave(jobId: string, reader: EventReader): void {
    const job = this.#jobs.get(jobId);
    if (job === undefined || !job.readers.delete(reader)) return;
    if (job.end !== null) this.#jobs.forget(job);
    else if (!isWanted(job)) this.#cancel(job);
  }

  /** Gives waiting jobs to free workers; one that nobody reads, after a restart, waits until somebody does, and one whose worker may come back a moment. */
  dispatch(): void {
    const nowMs = Date.now();
    const wanted = this.#wanted(nowMs);
    if (wanted.length === 0) {
      this.#demand.tell(0, 'urgent');
      return;
    }
    const seats = this.#sockets.seats(nowMs);
    if (lacksFallback(seats, this.#policy)) this.#wantFallback(wanted[0]!.grant.model);
    const leased = new Set<LiveJob>();
    const free = eligible(seats, this.#policy).filter(({ socketId }) => this.#sockets.isTrusted(socketId, nowMs));
    for (const { jobId, socketId } of assign(wanted, free, this.#shares.of(this.#jobs.values()))) {
      const job = this.#jobs.get(jobId)!;
      leased.add(job);
      this.#shares.took(job.accountId);
      const connection = this.#sockets.get(socketId)!;
      const { workerId, backend } = connection.worker!;
      job.epoch += 1;
      job.lease = { socketId, epoch: job.epoch, heardMs: nowMs, phase: 'flowing' };
      job.holder = workerId;
      job.backend = backend;
      connection.jobIds.add(jobId);
      this.#store.update(job);
      const emittedIds = acceptedTokens(job) === 0 ? [] : this.#emittedIds(job);
      this.#sockets.send(connection, { type: 'lease', job: this.#store.body(jobId), epoch: job.epoch, emittedIds });
    }
    this.#jobs.dequeue(leased);
    this.#demand.tell(wanted.length - leased.size, 'urgent');
  }

  /** Books what one message of a worker says. Frames that are not of a live lease of this socket are ignored. */
  frames(connection: Connection, frames: readonly Frame[]): void {
    if (this.#receiver.receive(connection, frames)) this.dispatch();
  }

  /** A worker's socket is gone, and with it the worker's leases. */
  disconnect(connection: Connection): void {
    this.#losses.disconnect(connection);
    this.dispatch();
  }

  /** A worker said hello: it goes on with those of its leases that nobody else has. */
  welcome(connection: Connection, leases: readonly HeldLease[]): void {
    this.#losses.takeBack(connection, leases);
    this.dispatch();
  }

  /** What time brings: checkpoints, `waiting` events, jobs and sockets that waited too long. */
  tick(queueTimeoutMs: number): void {
    const nowMs = Date.now();
    for (const connection of this.#sockets.silent(nowMs)) this.disconnect(connection);
    this.#losses.giveUp(nowMs);
    for (const job of overdue(this.#jobs.waiting, queueTimeoutMs, nowMs))
      this.#booking.end(job, { status: 'failed', failure: noCapacity(job, nowMs), free: false });
    for (const job of this.#jobs.values()) {
      if (job.end !== null) {
        const forgotten = nowMs - job.sinceMs >= KEEP_ENDED_MS;
        if (forgotten) for (const reader of job.readers) reader.abort('the job was read too late');
        this.#jobs.forget(job);
        continue;
      }
      if (job.lease !== null && nowMs - job.lease.heardMs >= LEASE_MS) this.#losses.expire(job);
      if (job.tail.length > 0 && nowMs - job.tailSinceMs >= CHECKPOINT_MS) this.#booking.checkpoint(job);
      for (const reader of job.readers) reader.keepAlive(nowMs);
      if (!isWanted(job) && nowMs - job.sinceMs >= REATTACH_MS) this.#cancel(job);
    }
    this.dispatch();
    this.#demand.tell(this.#wanted(nowMs).length, 'all');
  }

  /** Waiting jobs that may be leased now. */
  #wanted(nowMs: number): LiveJob[] {
    return this.#jobs.waiting.filter((job) => isWanted(job) && job.heldUntilMs <= nowMs);
  }

  /** The answer so far, for the next lease to go on after. */
  #emittedIds(job: LiveJob): number[] {
    return [...this.#store.tokenIds(job.id), ...job.tail.map((token) => token.id)];
  }

  #cancel(job: LiveJob): void {
    this.#booking.stop(job);
    this.#booking.end(job, { status: 'cancelled' });
    this.dispatch();
  }

  #eventAfter(job: LiveJob, place: Place): JobEvent | null {
    if (!place.started && job.started !== null) return { type: 'started', backend: job.backend ?? '', ...job.started };
    const from = place.tokens;
    if (from >= acceptedTokens(job)) return job.end;
    const tokens = from < job.stored ? this.#store.tokensFrom(job.id, from) : job.tail.slice(from - job.stored);
    // None: the job was dropped while it was read; the next tick ends its reader.
    return tokens.length === 0 ? null : { type: 'tokens', from, tokens };
  }
}
