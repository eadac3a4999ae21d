/** Dispatcher: the life of every job in one queue object, from submission over leases and frames to its end and settlement. */
import type { Frame } from '../../core/protocol.ts';
import type { QueueLoad } from '../api/admin-metrics.ts';
import type { JobEvent, Outcome } from '../api/service.ts';
import type { Grant } from '../ledger/grant.ts';
import type { Ending, LiveJob } from './job.ts';
import { acceptedTokens, endEventOf, newJob, progressOf } from './job.ts';
import { judge } from './lease.ts';
import type { Outbox } from './outbox.ts';
import {
  afterDeath,
  assign,
  bill,
  CHECKPOINT_MS,
  CHECKPOINT_TOKENS,
  deathsAfter,
  eligible,
  type FallbackPolicy,
  KEEP_ENDED_MS,
  LEASE_MS,
  lacksFallback,
  noCapacity,
  overdue,
  REATTACH_MS,
  refusalOf,
} from './policy.ts';
import type { Place } from './reader.ts';
import { EventReader } from './reader.ts';
import { type Connection, kindOf, type Sockets } from './sockets.ts';
import type { QueueStore } from './store.ts';
import { MAX_BODY_BYTES } from './store.ts';

export class Dispatcher {
  /** Jobs that live, and ended ones that are still being read. */
  readonly #jobs = new Map<string, LiveJob>();
  /** Those without a lease, in the order they came. */
  #waiting: LiveJob[] = [];
  readonly #store: QueueStore;
  readonly #sockets: Sockets;
  readonly #outbox: Outbox;
  readonly #wantFallback: (model: string) => void;
  #policy: FallbackPolicy;

  /** `wantFallback` is called when a job waits that only the fallback may take, and it is not connected. */
  constructor(store: QueueStore, sockets: Sockets, outbox: Outbox, wantFallback: (model: string) => void) {
    this.#store = store;
    this.#sockets = sockets;
    this.#outbox = outbox;
    this.#wantFallback = wantFallback;
    this.#policy = store.fallbackPolicy();
  }

  get idle(): boolean {
    return this.#jobs.size === 0;
  }

  /** What there is to do and who is there to do it. The fallback is no worker. */
  load(): QueueLoad {
    const seats = this.#sockets.seats(Date.now()).filter((seat) => seat.kind === 'worker');
    return {
      waiting: this.#waiting.length,
      running: [...this.#jobs.values()].filter((job) => job.lease !== null).length,
      workers: seats.length,
      freeSlots: seats.reduce((sum, seat) => sum + Math.max(0, seat.free), 0),
    };
  }

  /**
   * Takes over from an instance that was evicted or crashed. Its readers are gone: a job that nobody re-attaches to is cancelled by `tick`.
   * A leased job whose socket is gone has lost its worker; one whose socket stayed goes on, if its frames fit what reached storage.
   */
  restore(): void {
    const nowMs = Date.now();
    for (const job of this.#store.live(nowMs)) {
      this.#jobs.set(job.id, job);
      if (job.lease === null) this.#waiting.push(job);
      else {
        const connection = this.#sockets.get(job.lease.socketId);
        if (connection === null) this.#lose(job, 'died');
        else connection.jobIds.add(job.id);
      }
    }
  }

  /** `policy` is the model's, and holds from now on for all that waits. */
  submit(grant: Grant, body: string, policy: FallbackPolicy, depth: number): Outcome<LiveJob> {
    const nowMs = Date.now();
    if (grant.expiresMs <= nowMs) return { ok: false, failure: { code: 'grant_expired' } };
    if (body.length > MAX_BODY_BYTES || new TextEncoder().encode(body).byteLength > MAX_BODY_BYTES)
      return { ok: false, failure: { code: 'body_too_large', limitBytes: MAX_BODY_BYTES } };
    if (this.#store.known([grant.jobId]).length > 0)
      return { ok: false, failure: { code: 'conflict', reason: 'The job was submitted already.' } };
    if (policy !== this.#policy) this.#store.setFallbackPolicy(policy);
    this.#policy = policy;
    const numFree = eligible(this.#sockets.seats(nowMs), policy).reduce((sum, seat) => sum + Math.max(0, seat.free), 0);
    const refusal = refusalOf(this.#waiting.length, numFree, depth);
    if (refusal !== null) return { ok: false, failure: refusal };
    const job = newJob(grant, this.#store.insert(grant, body, nowMs), nowMs);
    this.#jobs.set(job.id, job);
    this.#waiting.push(job);
    return { ok: true, value: job };
  }

  /** A stream of the job's events from its `fromToken`-th token; an earlier reader of the same job is ended. Null: no such job. */
  read(jobId: string, fromToken: number): EventReader | null {
    const nowMs = Date.now();
    const job = this.#jobs.get(jobId) ?? this.#store.find(jobId, nowMs);
    if (job === null) return null;
    this.#jobs.set(jobId, job);
    const next = (place: Place) => this.#eventAfter(job, place);
    job.reader?.abort('another reader took over');
    const reader = new EventReader(next, fromToken, () => this.leave(jobId, reader), nowMs);
    job.reader = reader;
    this.dispatch();
    return reader;
  }

  /** A reader went away: its job is cancelled, unless another reader has it. */
  leave(jobId: string, reader: EventReader): void {
    const job = this.#jobs.get(jobId);
    if (job === undefined || job.reader !== reader) return;
    job.reader = null;
    if (job.end === null) this.#cancel(job);
    else this.#jobs.delete(jobId);
  }

  /** Gives waiting jobs to free workers; one that nobody reads, after a restart, waits until somebody does. */
  dispatch(): void {
    const read = this.#waiting.filter((job) => job.reader !== null);
    if (read.length === 0) return;
    const nowMs = Date.now();
    const seats = this.#sockets.seats(nowMs);
    if (lacksFallback(seats, this.#policy)) this.#wantFallback(read[0]!.grant.model);
    for (const { jobId, socketId } of assign(read, eligible(seats, this.#policy))) {
      const job = this.#jobs.get(jobId)!;
      const connection = this.#sockets.get(socketId)!;
      job.epoch += 1;
      job.lease = { socketId, epoch: job.epoch, fromToken: acceptedTokens(job), heardMs: nowMs };
      job.backend = connection.worker!.backend;
      connection.jobIds.add(jobId);
      this.#store.update(job);
      const emittedIds = acceptedTokens(job) === 0 ? [] : this.#emittedIds(job);
      this.#sockets.send(connection, { type: 'lease', job: this.#store.body(jobId), epoch: job.epoch, emittedIds });
    }
    this.#waiting = this.#waiting.filter((job) => job.lease === null);
  }

  /** Books what one message of a worker says. Frames that are not of a live lease of this socket are ignored. */
  frames(connection: Connection, frames: readonly Frame[]): void {
    const nowMs = Date.now();
    const touched = new Set<LiveJob>();
    let ended = false;
    for (const frame of frames) {
      const job = this.#jobs.get(frame.jobId);
      if (job?.lease?.socketId !== connection.id || job.lease.epoch !== frame.epoch) continue;
      job.lease.heardMs = nowMs;
      this.#apply(job, frame, connection);
      touched.add(job);
      ended ||= job.end !== null;
    }
    for (const job of touched) {
      if (job.tail.length >= CHECKPOINT_TOKENS) this.#checkpoint(job);
      job.reader?.pump();
    }
    if (ended) this.dispatch();
  }

  /** A worker's socket is gone, and with it the worker's leases. One that said farewell did not die of them. */
  disconnect(connection: Connection): void {
    this.#sockets.drop(connection, 'come back');
    const cause = connection.worker?.draining ? 'drained' : 'died';
    for (const jobId of connection.jobIds) {
      const job = this.#jobs.get(jobId);
      if (job?.lease?.socketId === connection.id) this.#lose(job, cause);
    }
    this.dispatch();
  }

  /** What time brings: checkpoints, `waiting` events, jobs and sockets that waited too long. */
  tick(queueTimeoutMs: number): void {
    const nowMs = Date.now();
    for (const connection of this.#sockets.silent(nowMs)) this.disconnect(connection);
    for (const job of overdue(this.#waiting, queueTimeoutMs, nowMs))
      this.#end(job, { status: 'failed', failure: noCapacity(job, nowMs), free: true });
    for (const job of this.#jobs.values()) {
      if (job.end !== null) {
        const forgotten = nowMs - job.sinceMs >= KEEP_ENDED_MS;
        if (forgotten) job.reader?.abort('the job was read too late');
        if (forgotten || job.reader === null || job.reader.closed) this.#jobs.delete(job.id);
        continue;
      }
      if (job.lease !== null && nowMs - job.lease.heardMs >= LEASE_MS) this.#expire(job);
      if (job.tail.length > 0 && nowMs - job.tailSinceMs >= CHECKPOINT_MS) this.#checkpoint(job);
      job.reader?.keepAlive(nowMs);
      if (job.reader === null && nowMs - job.sinceMs >= REATTACH_MS) this.#cancel(job);
    }
    this.dispatch();
  }

  #apply(job: LiveJob, frame: Frame, connection: Connection): void {
    const verdict = judge(progressOf(job), frame);
    switch (verdict.kind) {
      case 'started':
        job.started = { promptTokens: verdict.promptTokens, cachedTokens: verdict.cachedTokens };
        return;
      case 'accepted':
        if (job.tail.length === 0) job.tailSinceMs = Date.now();
        for (const token of verdict.tokens) job.tail.push(token);
        return;
      case 'finished':
        if (!verdict.honest) this.#quarantine(connection, job);
        this.#end(job, { status: 'completed', reason: verdict.reason, text: verdict.text });
        return;
      case 'failed':
        this.#end(job, { status: 'failed', failure: verdict.failure, free: false });
        return;
      case 'broken':
        this.#stop(job);
        this.#end(job, { status: 'failed', failure: verdict.failure, free: verdict.free });
        return;
      default:
        verdict satisfies never;
    }
  }

  /** A worker that counts other tokens than were accepted gets no work any more; what it has is lost like a dead one's. */
  #quarantine(connection: Connection, job: LiveJob): void {
    const workerId = connection.worker?.workerId ?? '';
    const reason = `job ${job.id} finished with another count than the ${acceptedTokens(job)} tokens that were accepted`;
    console.error({ event: 'worker_quarantined', workerId, reason });
    this.#store.quarantine(workerId, reason);
    connection.jobIds.delete(job.id);
    this.#sockets.refuse(connection, { code: 'conflict', reason: 'This worker is quarantined.' });
    for (const jobId of connection.jobIds) this.#lose(this.#jobs.get(jobId)!, 'died');
  }

  /** Its worker is there but says nothing of this job. */
  #expire(job: LiveJob): void {
    this.#stop(job);
    this.#sockets.get(job.lease!.socketId)?.jobIds.delete(job.id);
    this.#lose(job, 'died');
  }

  #lose(job: LiveJob, cause: 'died' | 'drained'): void {
    const { socketId, fromToken } = job.lease!;
    const lostBy = kindOf(socketId);
    const accepted = acceptedTokens(job);
    if (cause === 'died') job.deaths = deathsAfter({ deaths: job.deaths, lostBy, progressed: accepted > fromToken });
    const fate = afterDeath({ accepted, deaths: job.deaths, lostBy });
    if (fate.kind === 'fail') {
      this.#end(job, { status: 'failed', failure: fate.failure, free: false });
      return;
    }
    job.lease = null;
    job.started = null;
    this.#store.update(job);
    this.#waiting.push(job);
    this.#waiting.sort((left, right) => left.seq - right.seq);
  }

  /** The answer so far, for the next lease to go on after. */
  #emittedIds(job: LiveJob): number[] {
    return [...this.#store.tokenIds(job.id), ...job.tail.map((token) => token.id)];
  }

  #cancel(job: LiveJob): void {
    this.#stop(job);
    this.#end(job, { status: 'cancelled' });
    this.dispatch();
  }

  /** Tells the worker to stop. */
  #stop(job: LiveJob): void {
    const connection = job.lease === null ? null : this.#sockets.get(job.lease.socketId);
    if (connection !== null) this.#sockets.send(connection, { type: 'cancel', jobId: job.id, epoch: job.epoch });
  }

  #end(job: LiveJob, ending: Ending): void {
    const nowMs = Date.now();
    const { grant, backend } = job;
    const free = ending.status === 'failed' && ending.free;
    const promptTokens = job.started?.promptTokens ?? 0;
    const cachedTokens = job.started?.cachedTokens ?? 0;
    const accepted = acceptedTokens(job);
    const usage = bill({ promptTokens, cachedTokens, accepted }, { status: ending.status, free }, grant.tariff);
    if (job.lease !== null) this.#sockets.get(job.lease.socketId)?.jobIds.delete(job.id);
    else this.#waiting = this.#waiting.filter((other) => other !== job);
    job.lease = null;
    job.sinceMs = nowMs;
    job.end = endEventOf(ending, usage, accepted, backend);
    const { status } = ending;
    const { jobId, keyId, createdMs, model, tariff } = grant;
    this.#store.atomically(() => {
      this.#store.checkpoint(job);
      this.#store.end(job, job.end!, { jobId, keyId, createdMs, model, tariff, usage, status, backend }, nowMs);
    });
    if (ending.status === 'failed') console.warn({ event: 'job_failed', jobId, failure: ending.failure });
    job.reader?.pump();
    if (job.reader === null || job.reader.closed) this.#jobs.delete(jobId);
    void this.#outbox.flush(nowMs);
  }

  /** Writes the tail and tells the worker that it need not keep those frames; the message leaves when the write is durable. */
  #checkpoint(job: LiveJob): void {
    this.#store.atomically(() => {
      if (job.stored === 0) this.#store.update(job);
      this.#store.checkpoint(job);
    });
    const connection = job.lease === null ? null : this.#sockets.get(job.lease.socketId);
    if (connection === null) return;
    this.#sockets.send(connection, { type: 'ack', jobId: job.id, epoch: job.epoch, tokens: job.stored });
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
