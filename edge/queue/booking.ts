/** Booking: what becomes durable of a job: its accepted tokens, its end and what that costs. */
import type { Failure } from '../../core/errors.ts';
import type { Ending, LiveJob } from './job.ts';
import { acceptedTokens, endEventOf } from './job.ts';
import type { LiveJobs } from './live-jobs.ts';
import type { Outbox } from './outbox.ts';
import { bill, dropMs } from './policy.ts';
import type { Connection, Sockets } from './sockets.ts';
import type { QueueStore } from './store.ts';

export class Booking {
  readonly #jobs: LiveJobs;
  readonly #store: QueueStore;
  readonly #sockets: Sockets;
  readonly #outbox: Outbox;

  constructor(jobs: LiveJobs, store: QueueStore, sockets: Sockets, outbox: Outbox) {
    this.#jobs = jobs;
    this.#store = store;
    this.#sockets = sockets;
    this.#outbox = outbox;
  }

  /** Writes the tail and tells the worker that it need not keep those frames; the message leaves when the write is durable. */
  checkpoint(job: LiveJob): void {
    this.#store.atomically(() => {
      if (job.stored === 0) this.#store.update(job);
      this.#store.checkpoint(job);
    });
    const connection = job.lease === null ? null : this.#sockets.get(job.lease.socketId);
    if (connection === null) return;
    this.#sockets.send(connection, { type: 'ack', jobId: job.id, epoch: job.epoch, tokens: job.stored });
  }

  /** Tells the worker to stop. */
  stop(job: LiveJob): void {
    const connection = job.lease === null ? null : this.#sockets.get(job.lease.socketId);
    if (connection !== null) this.#sockets.send(connection, { type: 'cancel', jobId: job.id, epoch: job.epoch });
  }

  /** Tells the worker that it need not keep the frames of a job that it ended; the message leaves when the end is durable. */
  confirmEnd(job: LiveJob, connection: Connection): void {
    this.#sockets.send(connection, { type: 'ended', jobId: job.id, epoch: job.epoch });
  }

  /** The end of a job, wherever it is: its last tokens, its end event and its settlement in one write. */
  end(job: LiveJob, ending: Ending): void {
    const nowMs = Date.now();
    const { grant, backend } = job;
    const free = ending.status === 'failed' && ending.free;
    const promptTokens = job.started?.promptTokens ?? 0;
    const cachedTokens = job.started?.cachedTokens ?? 0;
    const accepted = acceptedTokens(job);
    const usage = bill({ promptTokens, cachedTokens, accepted }, { status: ending.status, free }, grant.tariff);
    if (job.lease !== null) this.#sockets.get(job.lease.socketId)?.jobIds.delete(job.id);
    else this.#jobs.dequeue(new Set([job]));
    job.lease = null;
    job.sinceMs = nowMs;
    job.end = endEventOf(ending, usage, accepted, backend);
    const { status } = ending;
    const { jobId, keyId, createdMs, model, tariff } = grant;
    const settlement = { jobId, keyId, createdMs, model, tariff, usage, status, backend };
    const when = { nowMs, dropMs: dropMs(grant.keepUntilMs, nowMs) };
    this.#store.atomically(() => {
      this.#store.checkpoint(job);
      this.#store.end(job, job.end!, settlement, when);
    });
    if (ending.status === 'failed') console.warn({ event: 'job_failed', jobId, failure: loggable(ending.failure) });
    for (const reader of job.readers) reader.pump();
    this.#jobs.forget(job);
    void this.#outbox.flush(nowMs);
  }
}

/** What is wrong with a request is told to its client alone: the reason may quote it, as a chat template's may. */
function loggable(failure: Failure): object {
  if (failure.code !== 'invalid_request' && failure.code !== 'unsupported_field') return failure;
  return { code: failure.code, param: failure.param };
}
