/**
 * Losses: what becomes of leases when a worker, its socket or this object's earlier instance is gone. The job waits at its old place and
 * anybody may go on with it after its accepted tokens; the worker that had it may come back and go on itself, as long as nobody else has it.
 */
import type { HeldLease } from '../../core/protocol.ts';
import type { Booking } from './booking.ts';
import type { LiveJob } from './job.ts';
import { acceptedTokens } from './job.ts';
import type { LiveJobs } from './live-jobs.ts';
import { fateAfter, RETURN_MS } from './policy.ts';
import { type Connection, kindOf, type Sockets } from './sockets.ts';
import type { QueueStore } from './store.ts';

export class Losses {
  readonly #jobs: LiveJobs;
  readonly #store: QueueStore;
  readonly #sockets: Sockets;
  readonly #booking: Booking;

  constructor(jobs: LiveJobs, store: QueueStore, sockets: Sockets, booking: Booking) {
    this.#jobs = jobs;
    this.#store = store;
    this.#sockets = sockets;
    this.#booking = booking;
  }

  /**
   * Takes over from an instance that was evicted or crashed. Its readers are gone: a job that nobody re-attaches to is cancelled by `tick`.
   * What it had accepted and not stored comes again: from a worker whose socket stayed at once, from one that comes back soon later.
   */
  restore(): void {
    const nowMs = Date.now();
    for (const job of this.#store.live(nowMs)) {
      this.#jobs.keep(job);
      const connection = job.lease === null ? null : this.#sockets.get(job.lease.socketId);
      if (connection !== null) this.#goOn(job, connection);
      else {
        const mayReturn = job.lease !== null && job.holder !== null && kindOf(job.lease.socketId) === 'worker';
        job.lease = null;
        if (mayReturn || fateAfter(job.deaths) !== null) job.heldUntilMs = nowMs + RETURN_MS;
        this.#jobs.enqueue(job);
      }
    }
  }

  /** A worker's socket is gone, and with it the worker's leases. One that said farewell did not die of them. */
  disconnect(connection: Connection): void {
    this.#sockets.drop(connection, 'come back');
    for (const job of this.#leasesOf(connection)) {
      if (connection.worker?.draining === false) this.#blame(job);
      this.#lose(job);
    }
  }

  /** A worker says hello, for the first time or after a loss. It lives: what was laid to its death is taken back. */
  takeBack(connection: Connection, leases: readonly HeldLease[]): void {
    const { workerId } = connection.worker!;
    for (const other of this.#sockets.ofWorker(workerId)) {
      if (other === connection) continue;
      this.#sockets.drop(other, 'replaced');
      for (const job of this.#leasesOf(other)) this.#lose(job);
    }
    for (const job of this.#jobs.values()) {
      if (!job.deaths.some((death) => death.workerId === workerId)) continue;
      job.deaths = job.deaths.filter((death) => death.workerId !== workerId);
      if (fateAfter(job.deaths) === null) job.heldUntilMs = 0;
      this.#store.update(job);
    }
    const back = new Set<LiveJob>();
    for (const { jobId, epoch, from } of leases) {
      const job = this.#jobs.get(jobId);
      const isFree = job !== undefined && job.end === null && job.lease === null;
      if (isFree && job.holder === workerId && job.epoch === epoch && from <= acceptedTokens(job)) back.add(job);
      else this.#sockets.send(connection, { type: 'cancel', jobId, epoch });
    }
    this.#jobs.dequeue(back);
    for (const job of back) this.#goOn(job, connection);
    // What it does not list it does not have: the lease was lost on its way, or it gave up.
    for (const job of this.#jobs.waiting) if (job.holder === workerId) this.#abandon(job);
  }

  /** A worker that counts other tokens than were accepted gets no work any more; what it has is lost like a dead one's. */
  quarantine(connection: Connection, job: LiveJob): void {
    const workerId = connection.worker?.workerId ?? '';
    const reason = `job ${job.id} finished with another count than the ${acceptedTokens(job)} tokens that were accepted`;
    console.error({ event: 'worker_quarantined', workerId, reason });
    this.#store.quarantine(workerId, reason);
    connection.jobIds.delete(job.id);
    this.#sockets.refuse(connection, { code: 'conflict', reason: 'This worker is quarantined.' });
    for (const other of this.#leasesOf(connection)) {
      this.#lose(other);
      this.#abandon(other);
    }
  }

  /** Its worker is there but says nothing of this job. */
  expire(job: LiveJob): void {
    this.#booking.stop(job);
    this.#sockets.get(job.lease!.socketId)?.jobIds.delete(job.id);
    this.#blame(job);
    this.#lose(job);
    this.#abandon(job);
  }

  /** Ends the jobs that too many workers died of, once their workers had time to come back. */
  giveUp(nowMs: number): void {
    for (const job of this.#jobs.waiting) {
      const failure = job.heldUntilMs <= nowMs ? fateAfter(job.deaths) : null;
      if (failure !== null) this.#booking.end(job, { status: 'failed', failure, free: false });
    }
  }

  #leasesOf(connection: Connection): LiveJob[] {
    const jobs = [...connection.jobIds].map((jobId) => this.#jobs.get(jobId));
    return jobs.filter((job) => job !== undefined).filter((job) => job.lease?.socketId === connection.id);
  }

  /** The worker counts as dead of this job until it comes back. */
  #blame(job: LiveJob): void {
    const { holder, epoch } = job;
    job.deaths.push({ workerId: holder ?? '', epoch, tokens: acceptedTokens(job) });
    if (fateAfter(job.deaths) !== null) job.heldUntilMs = Date.now() + RETURN_MS;
  }

  /** Back to its place in the line, with its accepted tokens. */
  #lose(job: LiveJob): void {
    job.lease = null;
    job.waitingSinceMs = Date.now();
    this.#store.update(job);
    this.#jobs.enqueue(job);
  }

  /** The worker that had it does not come back with it. */
  #abandon(job: LiveJob): void {
    job.holder = null;
    if (fateAfter(job.deaths) === null) job.heldUntilMs = 0;
    this.#store.update(job);
  }

  /** The same lease over this connection, from the accepted tokens on. */
  #goOn(job: LiveJob, connection: Connection): void {
    const { id: jobId, epoch } = job;
    job.lease = { socketId: connection.id, epoch, heardMs: Date.now(), phase: 'replaying' };
    job.backend = connection.worker?.backend ?? job.backend;
    connection.jobIds.add(jobId);
    this.#store.update(job);
    this.#sockets.send(connection, { type: 'kept', jobId, epoch, tokens: acceptedTokens(job) });
  }
}
