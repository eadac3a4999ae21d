/** Receiver: books what workers' frames say of the jobs leased to them. */
import type { Frame } from '../../core/protocol.ts';
import type { Booking } from './booking.ts';
import type { LiveJob } from './job.ts';
import { progressOf } from './job.ts';
import { judge } from './lease.ts';
import type { LiveJobs } from './live-jobs.ts';
import type { Losses } from './losses.ts';
import { CHECKPOINT_TOKENS } from './policy.ts';
import type { Connection } from './sockets.ts';

export class Receiver {
  readonly #jobs: LiveJobs;
  readonly #booking: Booking;
  readonly #losses: Losses;

  constructor(jobs: LiveJobs, booking: Booking, losses: Losses) {
    this.#jobs = jobs;
    this.#booking = booking;
    this.#losses = losses;
  }

  /** One message of a worker; returns whether a job ended by it. Frames that are not of a live lease of this socket are ignored. */
  receive(connection: Connection, frames: readonly Frame[]): boolean {
    const nowMs = Date.now();
    const touched = new Set<LiveJob>();
    let ended = false;
    for (const frame of frames) {
      const job = this.#jobs.get(frame.jobId);
      if (job?.lease?.socketId !== connection.id || job.lease.epoch !== frame.epoch) continue;
      this.#apply(job, frame, connection, nowMs);
      touched.add(job);
      ended ||= job.end !== null;
    }
    for (const job of touched) {
      if (job.tail.length >= CHECKPOINT_TOKENS) this.#booking.checkpoint(job);
      for (const reader of job.readers) reader.pump();
    }
    return ended;
  }

  #apply(job: LiveJob, frame: Frame, connection: Connection, nowMs: number): void {
    const verdict = judge(progressOf(job), frame);
    if (verdict.kind === 'premature') return;
    const lease = job.lease!;
    lease.heardMs = nowMs;
    switch (verdict.kind) {
      case 'started':
        job.started = { promptTokens: verdict.promptTokens, cachedTokens: verdict.cachedTokens };
        return;
      case 'repeated':
        return;
      case 'accepted':
        lease.phase = 'flowing';
        if (job.tail.length === 0) job.tailSinceMs = nowMs;
        for (const token of verdict.tokens) job.tail.push(token);
        return;
      case 'finished':
        if (!verdict.honest) this.#losses.quarantine(connection, job);
        this.#booking.end(job, { status: 'completed', reason: verdict.reason, text: verdict.text });
        this.#booking.confirmEnd(job, connection);
        return;
      case 'failed':
        this.#booking.end(job, { status: 'failed', failure: verdict.failure, free: false });
        this.#booking.confirmEnd(job, connection);
        return;
      case 'broken':
        this.#booking.stop(job);
        this.#booking.end(job, { status: 'failed', failure: verdict.failure, free: verdict.free });
        return;
      default:
        verdict satisfies never;
    }
  }
}
