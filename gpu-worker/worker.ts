/** Worker: the leases of a link on an engine. Steps while there is work and sends each step's frames as one message. */
import { setImmediate } from 'node:timers/promises';
import type { Engine, EngineEvent } from '../core/engine/engine.ts';
import { describe, type Failure, failureOf, NibbleError } from '../core/errors.ts';
import type { Graph } from '../core/model/graph.ts';
import type { Frame, Job } from '../core/protocol.ts';

/** Times in a row that a lost device is replaced before the worker gives up. */
const MAX_RELOADS = 3;

export interface Recovery {
  /** Opens the backend anew and loads the same model onto it. */
  reload(): Promise<Graph>;
  /** The device was lost and did not come back: this worker can serve no more. */
  onBroken(failure: Failure): void;
}

export class Worker {
  readonly #engine: Engine;
  readonly #send: (frames: Frame[]) => void;
  readonly #log: (line: string) => void;
  /** Epoch of each job's lease. */
  readonly #leases = new Map<string, number>();
  #stepping = false;
  #onIdle: (() => void)[] = [];

  readonly #recovery: Recovery;
  /** Since the last step that went well. */
  #reloads = 0;

  constructor(engine: Engine, send: (frames: Frame[]) => void, log: (line: string) => void, recovery: Recovery) {
    this.#recovery = recovery;
    this.#engine = engine;
    this.#send = send;
    this.#log = log;
  }

  lease(job: Job, epoch: number, emittedIds: readonly number[]): void {
    this.cancel(job.id);
    const accepted = this.#engine.add(job, emittedIds);
    if ('code' in accepted) {
      this.#send([this.#failed(job.id, epoch, accepted)]);
      return;
    }
    this.#leases.set(job.id, epoch);
    this.#send([{ jobId: job.id, epoch, kind: 'started', promptTokens: accepted.promptIds.length, cachedTokens: 0 }]);
    void this.#run();
  }

  cancel(jobId: string): void {
    this.#leases.delete(jobId);
    this.#engine.cancel(jobId);
  }

  cancelAll(): void {
    for (const jobId of [...this.#leases.keys()]) this.cancel(jobId);
  }

  /** Resolves when no lease is left. */
  async idle(): Promise<void> {
    if (this.#stepping) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  async #run(): Promise<void> {
    if (this.#stepping) return;
    this.#stepping = true;
    while (this.#engine.numJobs > 0) {
      try {
        this.#send(this.#frames(await this.#engine.step()));
        this.#reloads = 0;
      } catch (error) {
        const failure = failureOf(error);
        if (failure.code === 'device_lost') await this.#recover(failure);
        else this.#failAll(failure);
      }
      // Lets leases and cancels in between two steps.
      await setImmediate();
    }
    this.#stepping = false;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  /** A lost device is replaced and the step runs again; leases stay. */
  async #recover(lost: Failure): Promise<void> {
    try {
      if (this.#reloads++ === MAX_RELOADS) throw new NibbleError(lost);
      this.#log(`${describe(lost)}; loading the model again`);
      this.#engine.restart(await this.#recovery.reload());
    } catch (error) {
      this.#failAll(failureOf(error));
      this.#recovery.onBroken(failureOf(error));
    }
  }

  #frames(events: readonly EngineEvent[]): Frame[] {
    const frames: Frame[] = [];
    for (const event of events) {
      const epoch = this.#leases.get(event.jobId);
      if (epoch === undefined) continue;
      const lease = { jobId: event.jobId, epoch };
      switch (event.kind) {
        case 'token':
          frames.push({ ...lease, kind: 'tokens', from: event.from, tokens: [event.token] });
          break;
        case 'finished':
          frames.push({ ...lease, kind: 'finished', reason: event.reason, tokens: event.tokens, text: event.text });
          this.#leases.delete(event.jobId);
          break;
        case 'failed':
          frames.push(this.#failed(event.jobId, epoch, event.failure));
          this.#leases.delete(event.jobId);
          break;
        default:
          event satisfies never;
      }
    }
    return frames;
  }

  #failAll(failure: Failure): void {
    const frames = [...this.#leases].map(([jobId, epoch]) => this.#failed(jobId, epoch, failure));
    this.cancelAll();
    this.#send(frames);
  }

  /** Inner reasons stay in this worker's log. */
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
