/** FreePort: a port of this machine that nobody listens on, for programs that start a server of their own. */
import { createServer } from 'node:net';

/** It may be taken by another program before it is used. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
