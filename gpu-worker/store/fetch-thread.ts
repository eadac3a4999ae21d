/** FetchThread: receives, checks and caches chunks beside the thread that loads them, so that neither waits for the other's work. */
import { parentPort } from 'node:worker_threads';
import { failureOf, NibbleError } from '../../core/errors.ts';
import { DiskCache } from './disk-cache.ts';
import type { Order, Report } from './fetcher.ts';
import { S3Bucket } from './s3-bucket.ts';
import { findS3Files, type RemoteFile } from './s3-files.ts';
import { countYoungBytes } from './young-memory.ts';

const port = parentPort!;
const pending = new Set<Promise<void>>();
let bucket: S3Bucket | null = null;
let files = new Map<string, RemoteFile>();

port.on('message', (order: Order) => {
  const work = take(order).finally(() => pending.delete(work));
  pending.add(work);
});

async function take(order: Order): Promise<void> {
  switch (order.kind) {
    case 'open':
      return open(order);
    case 'fetch':
      return fetch(order);
    case 'close':
      // Later: this order itself is among the pending ones.
      queueMicrotask(async () => {
        await Promise.allSettled(pending);
        bucket?.close();
        port.close();
      });
      return;
    default:
      order satisfies never;
  }
}

async function open({ address, s3, disk }: Order & { kind: 'open' }): Promise<void> {
  try {
    bucket = new S3Bucket(address.bucket, s3);
    const log = (line: string) => send({ kind: 'log', line });
    const cache = disk === null ? null : new DiskCache(disk.directory, disk.limitBytes, log);
    const found = await findS3Files(bucket, address, cache);
    if (found === null) {
      send({ kind: 'nothing' });
      return;
    }
    files = found.files;
    const described = [...files].map(
      ([path, { name, bytes, chunkBytes }]): [string, Omit<RemoteFile, 'fetch' | 'identity'>] => [
        path,
        { name, bytes, chunkBytes },
      ],
    );
    send({ kind: 'opened', identity: found.identity, files: described });
  } catch (error) {
    send({ kind: 'refused', failure: failureOf(error) });
  }
}

async function fetch({ id, file, index, chunk }: Order & { kind: 'fetch' }): Promise<void> {
  try {
    const found = files.get(file);
    if (found === undefined) throw new NibbleError({ code: 'internal', reason: `${file} was never opened` });
    await found.fetch(index, chunk);
    // As many again came in buffers from the network.
    countYoungBytes(chunk.length);
    send({ kind: 'fetched', id, failure: null });
  } catch (error) {
    send({ kind: 'fetched', id, failure: failureOf(error) });
  }
}

function send(report: Report): void {
  port.postMessage(report);
}
