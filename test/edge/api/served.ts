/** Served: an app behind a real port, for clients that insist on one. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Scripted } from './scripted-service.ts';

export async function served({ app }: Pick<Scripted, 'app'>): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(async (incoming, outgoing) => {
    const abort = new AbortController();
    outgoing.on('close', () => abort.abort());
    const body: Uint8Array[] = [];
    for await (const part of incoming) body.push(part);
    const request = new Request(`http://${incoming.headers.host}${incoming.url}`, {
      method: incoming.method ?? 'GET',
      headers: incoming.headers as Record<string, string>,
      signal: abort.signal,
      ...(incoming.method === 'POST' ? { body: Buffer.concat(body) } : {}),
    });
    const response = await app.fetch(request);
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    if (response.body === null) return outgoing.end();
    const reader = response.body.getReader();
    outgoing.on('close', () => void reader.cancel('the connection closed'));
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return outgoing.end();
      outgoing.write(value);
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
