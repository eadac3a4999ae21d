/** Fetcher: this thread's end of the thread that fetches chunks; see fetch-thread.ts. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type Failure, NibbleError } from '../../core/errors.ts';
import type { ChunkedFile } from './chunk-reader.ts';
import type { S3Address } from './s3-address.ts';
import type { S3Connection } from './s3-bucket.ts';

/** What remote stores need: an S3 endpoint, and where chunks are kept; null keeps none. */
export interface RemoteOptions {
  s3: S3Connection | null;
  disk: { directory: string; limitBytes: number } | null;
  log: (line: string) => void;
}

/** To the thread. The address comes first and once; `chunk` is in shared memory. */
export type Order =
  | { kind: 'open'; address: S3Address; s3: RemoteOptions['s3']; disk: RemoteOptions['disk'] }
  | { kind: 'fetch'; id: number; file: string; index: number; chunk: Uint8Array }
  | { kind: 'close' };

/** From it. */
export type Report =
  | { kind: 'opened'; identity: string; files: [string, Omit<ChunkedFile, 'fetch'>][] }
  | { kind: 'nothing' }
  | { kind: 'refused'; failure: Failure }
  | { kind: 'fetched'; id: number; failure: Failure | null }
  | { kind: 'log'; line: string };

/** Network buffers die young; a small nursery gives them back soon. */
const NURSERY_MB = 2;

export class Fetcher {
  readonly #thread: Worker;
  readonly #options: RemoteOptions;
  readonly #opened = Promise.withResolvers<Report & { kind: 'opened' | 'nothing' }>();
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
  #nextId = 0;
  #isClosed = false;

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.#thread = new Worker(new URL('./fetch-thread.ts', import.meta.url), {
      resourceLimits: { maxYoungGenerationSizeMb: NURSERY_MB },
    });
    this.#thread.on('message', (report: Report) => this.#take(report));
    this.#thread.on('error', (error: unknown) => this.#fail(error as Error));
    this.#thread.on('exit', () => this.#fail(new Error('the thread that fetches weights has ended')));
    // Nobody may be asking any more when it ends.
    this.#opened.promise.catch(() => {});
  }

  /** The files there; null where nothing is. Once. */
  async open(address: S3Address): Promise<{ identity: string; files: Map<string, ChunkedFile> } | null> {
    const { s3, disk } = this.#options;
    this.#send({ kind: 'open', address, s3, disk });
    const report = await this.#opened.promise;
    if (report.kind === 'nothing') return null;
    const files = report.files.map(([path, file]): [string, ChunkedFile] => [
      path,
      { ...file, fetch: (index, chunk) => this.#fetch(path, index, chunk) },
    ]);
    return { identity: report.identity, files: new Map(files) };
  }

  /** Resolves when what was begun has ended, so that nothing half-written stays on the disk. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    const ended = once(this.#thread, 'exit');
    this.#send({ kind: 'close' });
    this.#isClosed = true;
    await ended;
  }

  #fetch(file: string, index: number, chunk: Uint8Array): Promise<void> {
    if (this.#isClosed) return Promise.reject(new Error(`${file}: read after close`));
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<void>();
    this.#waiting.set(id, waiting);
    this.#send({ kind: 'fetch', id, file, index, chunk });
    return waiting.promise;
  }

  #take(report: Report): void {
    switch (report.kind) {
      case 'opened':
      case 'nothing':
        this.#opened.resolve(report);
        break;
      case 'refused':
        this.#opened.reject(new NibbleError(report.failure));
        break;
      case 'fetched': {
        const waiting = this.#waiting.get(report.id);
        this.#waiting.delete(report.id);
        if (report.failure === null) waiting?.resolve();
        else waiting?.reject(new NibbleError(report.failure));
        break;
      }
      case 'log':
        this.#options.log(report.line);
        break;
      default:
        report satisfies never;
    }
  }

  #fail(error: Error): void {
    this.#isClosed = true;
    this.#opened.reject(error);
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  #send(order: Order): void {
    this.#thread.postMessage(order);
  }
}
