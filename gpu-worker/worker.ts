/** Worker: the leases of a link on an engine. Steps while there is work and sends each step's frames as one message. */
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../core/engine/engine.ts';
import { Leases } from '../core/engine/leases.ts';
import type { Frame, Job } from '../core/protocol.ts';

export class Worker {
  readonly #leases: Leases;
  readonly #send: (frames: Frame[]) => void;
  #stepping = false;
  #onIdle: (() => void)[] = [];

  constructor(engine: Engine, send: (frames: Frame[]) => void, log: (line: string) => void) {
    this.#leases = new Leases(engine, log);
    this.#send = send;
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
      this.#send(await this.#leases.step());
      // Lets leases and cancels in between two steps.
      await setImmediate();
    }
    this.#stepping = false;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }
}
