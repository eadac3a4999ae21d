/** GetLoop: the rival: ranged GetObject requests over one object, a few at a time, their bytes dropped. Prints its time. */
import process from 'node:process';
import type { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';

const [bucket, key, rangeBytes, atOnce] = process.argv.slice(2);
const client = new S3Client({ forcePathStyle: true });
const object = { Bucket: bucket!, Key: key! };
const startMs = performance.now();
const bytes = (await client.send(new HeadObjectCommand(object))).ContentLength!;
let next = 0;
let received = 0;
const work = async () => {
  while (next < bytes) {
    const begin = next;
    next += Number(rangeBytes);
    const Range = `bytes=${begin}-${Math.min(next, bytes) - 1}`;
    const { Body } = await client.send(new GetObjectCommand({ ...object, Range }));
    for await (const piece of Body as Readable as AsyncIterable<Uint8Array>) received += piece.length;
  }
};
await Promise.all(Array.from({ length: Number(atOnce) }, work));
if (received !== bytes) throw new Error(`${received} of ${bytes} bytes`);
console.log(JSON.stringify({ ms: performance.now() - startMs, bytes }));
