/** Relay: a TCP proxy between one worker and the edge, whose connections can be cut as a network does. */

import type { AddressInfo } from 'node:net';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';

export class Relay {
  readonly url: string;
  readonly #server: Server;
  readonly #pairs: Set<readonly [Socket, Socket]>;

  private constructor(server: Server, pairs: Set<readonly [Socket, Socket]>) {
    this.#server = server;
    this.#pairs = pairs;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(edgeUrl: string): Promise<Relay> {
    const { hostname, port } = new URL(edgeUrl);
    const pairs = new Set<readonly [Socket, Socket]>();
    const server = createServer((near) => {
      const far = dial(Number(port), hostname);
      const pair = [near, far] as const;
      pairs.add(pair);
      for (const [from, to] of [pair, [far, near] as const]) {
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => {
          to.destroy();
          pairs.delete(pair);
        });
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Relay(server, pairs);
  }

  /** `reset`: both ends learn of it at once. `silent`: nothing passes any more, and nobody is told for so long. */
  cut(kind: 'reset' | 'silent', silentMs: number): void {
    for (const [near, far] of this.#pairs) {
      if (kind === 'reset') {
        near.resetAndDestroy();
        far.resetAndDestroy();
        continue;
      }
      near.unpipe(far);
      far.unpipe(near);
      near.pause();
      far.pause();
      setTimeout(() => {
        near.resetAndDestroy();
        far.resetAndDestroy();
      }, silentMs);
    }
  }

  stop(): void {
    this.cut('reset', 0);
    this.#server.close();
  }
}
