/** Losses: what becomes of leases when a worker, its socket or this object's earlier instance is gone. */
import type { Booking } from './booking.ts';
import type { LiveJob } from './job.ts';
import { acceptedTokens } from './job.ts';
import type { LiveJobs } from './live-jobs.ts';
import { fateAfter } from './policy.ts';
import type { Connection, Sockets } from './sockets.ts';
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
   * A leased job whose socket is gone has lost its worker; one whose socket stayed goes on, if its frames fit what reached storage.
   */
  restore(): void {
    for (const job of this.#store.live(Date.now())) {
      this.#jobs.keep(job);
      if (job.lease === null) this.#jobs.enqueue(job);
      else {
        const connection = this.#sockets.get(job.lease.socketId);
        if (connection === null) this.#lose(job, 'died');
        else connection.jobIds.add(job.id);
      }
    }
  }

  /** A worker's socket is gone, and with it the worker's leases. One that said farewell did not die of them. */
  disconnect(connection: Connection): void {
    this.#sockets.drop(connection, 'come back');
    const cause = connection.worker?.draining ? 'drained' : 'died';
    for (const jobId of connection.jobIds) {
      const job = this.#jobs.get(jobId);
      if (job?.lease?.socketId === connection.id) this.#lose(job, cause);
    }
  }

  /** A worker that counts other tokens than were accepted gets no work any more; what it has is lost like a dead one's. */
  quarantine(connection: Connection, job: LiveJob): void {
    const workerId = connection.worker?.workerId ?? '';
    const reason = `job ${job.id} finished with another count than the ${acceptedTokens(job)} tokens that were accepted`;
    console.error({ event: 'worker_quarantined', workerId, reason });
    this.#store.quarantine(workerId, reason);
    connection.jobIds.delete(job.id);
    this.#sockets.refuse(connection, { code: 'conflict', reason: 'This worker is quarantined.' });
    for (const jobId of connection.jobIds) this.#lose(this.#jobs.get(jobId)!, 'died');
  }

  /** Its worker is there but says nothing of this job. */
  expire(job: LiveJob): void {
    this.#booking.stop(job);
    this.#sockets.get(job.lease!.socketId)?.jobIds.delete(job.id);
    this.#lose(job, 'died');
  }

  /** Back to its place in the line, with its accepted tokens; or to its end, when too many died of it. */
  #lose(job: LiveJob, cause: 'died' | 'drained'): void {
    const { workerId, epoch } = job.lease!;
    if (cause === 'died') job.deaths.push({ workerId, epoch, tokens: acceptedTokens(job) });
    const failure = fateAfter(job.deaths);
    if (failure !== null) {
      this.#booking.end(job, { status: 'failed', failure, free: false });
      return;
    }
    job.lease = null;
    job.waitingSinceMs = Date.now();
    this.#store.update(job);
    this.#jobs.enqueue(job);
  }
}
