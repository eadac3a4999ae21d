/** Worker: the leases of a link on an engine. Steps while there is work and sends each step's frames as one message. */
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../core/engine/engine.ts';
import { Leases } from '../core/engine/leases.ts';
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
  readonly #leases: Leases;
  readonly #send: (frames: Frame[]) => void;
  readonly #log: (line: string) => void;
  readonly #recovery: Recovery;
  /** Since the last step that went well. */
  #reloads = 0;
  #stepping = false;
  #onIdle: (() => void)[] = [];

  constructor(engine: Engine, send: (frames: Frame[]) => void, log: (line: string) => void, recovery: Recovery) {
    this.#engine = engine;
    this.#leases = new Leases(engine, log);
    this.#send = send;
    this.#log = log;
    this.#recovery = recovery;
  }

  lease(job: Job, epoch: number, emittedIds: readonly number[]): void {
    this.#send(this.#leases.lease(job, epoch, emittedIds));
    void this.#run();
  }

  cancel(jobId: string): void {
    this.#leases.cancel(jobId);
  }

  cancelAll(): void {
    this.#leases.cancelAll();
  }

  /** Resolves when no lease is left. */
  async idle(): Promise<void> {
    if (this.#stepping) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  async #run(): Promise<void> {
    if (this.#stepping) return;
    this.#stepping = true;
    while (this.#leases.busy) {
      try {
        this.#send(await this.#leases.step());
        this.#reloads = 0;
      } catch (error) {
        await this.#recover(failureOf(error));
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
      this.#send(this.#leases.failAll(failureOf(error)));
      this.#recovery.onBroken(failureOf(error));
    }
  }
}
