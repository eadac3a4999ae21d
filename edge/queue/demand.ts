/** Demand: tells workers how many jobs wait here for room, so that they move credits here from queues that need them less. */
import type { Sockets } from './sockets.ts';

export class Demand {
  readonly #sockets: Sockets;

  constructor(sockets: Sockets) {
    this.#sockets = sockets;
  }

  /** `urgent` tells only those for whom this begins or ends; `all`, now and then, also how it grew. */
  tell(waiting: number, to: 'urgent' | 'all'): void {
    for (const connection of this.#sockets.workers()) {
      const { worker, toldWaiting } = connection;
      if (worker === null || worker.draining || toldWaiting === waiting) continue;
      if (to === 'urgent' && toldWaiting > 0 && waiting > 0) continue;
      connection.toldWaiting = waiting;
      this.#sockets.send(connection, { type: 'demand', waiting });
    }
  }
}
