/** FaultyProxy: stands before the local S3, counts what is asked of it, and spoils the answers it is told to. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { S3Connection } from '../../../gpu-worker/store/s3-bucket.ts';

export type Fault =
  /** The connection breaks after so many bytes of the body. */
  | { kind: 'cut'; afterBytes: number }
  | { kind: 'status'; status: number; code: string }
  /** One bit of the body is another. */
  | { kind: 'flip' }
  /** Bytes come late. */
  | { kind: 'delay'; ms: number };

interface Rule {
  method: string;
  path: RegExp;
  times: number;
  fault: Fault;
}

export class FaultyProxy {
  readonly connection: S3Connection;
  readonly #server: Server;
  readonly #rules: Rule[] = [];
  /** Ranged reads of blobs: weights. */
  blobReads = 0;
  blobBytes = 0;

  private constructor(server: Server, connection: S3Connection) {
    this.#server = server;
    this.connection = connection;
  }

  static async start(upstream: S3Connection): Promise<FaultyProxy> {
    const { origin, pathname } = new URL(upstream.endpoint);
    const server = createServer((incoming, outgoing) => proxy.#forward(origin, incoming, outgoing));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const proxy = new FaultyProxy(server, { ...upstream, endpoint: `http://127.0.0.1:${port}${pathname}` });
    return proxy;
  }

  /** The next `times` requests that fit go wrong. */
  spoil(fault: Fault, { method = 'GET', path = /\/blobs\//, times = 1 } = {}): void {
    this.#rules.push({ method, path, times, fault });
  }

  reset(): void {
    this.#rules.length = 0;
    this.blobReads = 0;
    this.blobBytes = 0;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #forward(origin: string, incoming: IncomingMessage, outgoing: ServerResponse): void {
    const url = incoming.url!;
    const isBlobRead = incoming.method === 'GET' && url.includes('/blobs/');
    if (isBlobRead) this.blobReads++;
    const rule = this.#rules.find(
      ({ method, path, times }) => times > 0 && method === incoming.method && path.test(url),
    );
    if (rule !== undefined) rule.times--;
    const fault = rule?.fault;
    if (fault?.kind === 'status') {
      incoming.resume();
      outgoing.writeHead(fault.status, { 'content-type': 'application/xml' });
      outgoing.end(`<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>spoilt</Message></Error>`);
      return;
    }
    const upstream = request(origin + url, { method: incoming.method, headers: incoming.headers }, (answer) => {
      const begin = async () => {
        if (fault?.kind === 'delay') await new Promise((resolve) => setTimeout(resolve, fault.ms));
        outgoing.writeHead(answer.statusCode!, answer.headers);
        let sent = 0;
        for await (const piece of answer as AsyncIterable<Buffer>) {
          if (fault?.kind === 'flip' && sent === 0) piece[0]! ^= 1;
          if (fault?.kind === 'cut' && sent + piece.length > fault.afterBytes) {
            outgoing.write(piece.subarray(0, fault.afterBytes - sent), () => outgoing.destroy());
            return;
          }
          sent += piece.length;
          if (isBlobRead) this.blobBytes += piece.length;
          if (!outgoing.write(piece)) await new Promise((resolve) => outgoing.once('drain', resolve));
        }
        outgoing.end();
      };
      begin().catch(() => outgoing.destroy());
    });
    upstream.on('error', () => outgoing.destroy());
    outgoing.on('close', () => upstream.destroy());
    incoming.pipe(upstream);
  }
}
