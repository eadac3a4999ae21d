/** Leases: the jobs that a queue leased to an engine, and its events as the frames that the queue understands. */
import { describe, type Failure, failureOf } from '../errors.ts';
import type { Frame, Job } from '../protocol.ts';
import type { Engine, EngineEvent } from './engine.ts';

export class Leases {
  readonly #engine: Engine;
  readonly #log: (line: string) => void;
  /** Epoch of each job's lease. */
  readonly #epochs = new Map<string, number>();

  constructor(engine: Engine, log: (line: string) => void) {
    this.#engine = engine;
    this.#log = log;
  }

  /** Whether a step has anything to do. */
  get busy(): boolean {
    return this.#engine.numJobs > 0;
  }

  /** Takes a job; an earlier lease of the same job is void. `emittedIds`: the answer so far. Returns what to tell the queue. */
  lease(job: Job, epoch: number, emittedIds: readonly number[]): Frame[] {
    this.cancel(job.id);
    const accepted = this.#engine.add(job, emittedIds);
    if ('code' in accepted) return [this.#failed(job.id, epoch, accepted)];
    this.#epochs.set(job.id, epoch);
    return [{ jobId: job.id, epoch, kind: 'started', promptTokens: accepted.promptIds.length, cachedTokens: 0 }];
  }

  cancel(jobId: string): void {
    this.#epochs.delete(jobId);
    this.#engine.cancel(jobId);
  }

  cancelAll(): void {
    for (const jobId of [...this.#epochs.keys()]) this.cancel(jobId);
  }

  /** One step of the engine. When the backend fails, so do all jobs; a lost device is thrown instead, and they stay for the next one. */
  async step(): Promise<Frame[]> {
    try {
      return this.#frames(await this.#engine.step());
    } catch (error) {
      const failure = failureOf(error);
      if (failure.code === 'device_lost') throw error;
      return this.failAll(failure);
    }
  }

  failAll(failure: Failure): Frame[] {
    const frames = [...this.#epochs].map(([jobId, epoch]) => this.#failed(jobId, epoch, failure));
    this.cancelAll();
    return frames;
  }

  #frames(events: readonly EngineEvent[]): Frame[] {
    const frames: Frame[] = [];
    for (const event of events) {
      const epoch = this.#epochs.get(event.jobId);
      if (epoch === undefined) continue;
      const lease = { jobId: event.jobId, epoch };
      switch (event.kind) {
        case 'token':
          frames.push({ ...lease, kind: 'tokens', from: event.from, tokens: [event.token] });
          break;
        case 'finished':
          frames.push({ ...lease, kind: 'finished', reason: event.reason, tokens: event.tokens, text: event.text });
          this.#epochs.delete(event.jobId);
          break;
        case 'failed':
          frames.push(this.#failed(event.jobId, epoch, event.failure));
          this.#epochs.delete(event.jobId);
          break;
        default:
          event satisfies never;
      }
    }
    return frames;
  }

  /** Inner reasons stay in this side's log. */
  #failed(jobId: string, epoch: number, failure: Failure): Frame {
    this.#log(`job ${jobId} failed: ${describe(failure)}`);
    const inner = failure.code === 'internal' || failure.code === 'generation_failed';
    return {
      jobId,
      epoch,
      kind: 'failed',
      failure: inner ? { code: 'generation_failed', reason: 'see the log of the worker' } : failure,
    };
  }
}
