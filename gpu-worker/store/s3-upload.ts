/** S3Upload: one large object in parts, a few at a time; gives the parts back when it fails. */
import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';

interface Upload {
  bucket: string;
  key: string;
  bytes: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** How many have arrived. */
  onBytes(sent: number): void;
  /** One request, with retries. */
  send<Answer>(request: (client: S3Client) => Promise<Answer>): Promise<Answer>;
}

/** R2 wants parts of one size; S3 takes at most 10,000 of them. */
const LEAST_PART_BYTES = 16 << 20;
const MAX_PARTS = 10_000;
/** Each holds a part in memory. */
const AT_ONCE = 3;

export async function uploadParts({ bucket, key, bytes, read, onBytes, send }: Upload): Promise<void> {
  const object = { Bucket: bucket, Key: key };
  const partBytes = Math.max(LEAST_PART_BYTES, Math.ceil(bytes / MAX_PARTS));
  const { UploadId } = await send((client) => client.send(new CreateMultipartUploadCommand(object)));
  const upload = { ...object, UploadId };
  const count = Math.max(1, Math.ceil(bytes / partBytes));
  const tags: string[] = [];
  let [next, sent] = [0, 0];
  let failed = false;
  const work = async () => {
    while (next < count && !failed) {
      const index = next++;
      const part = await read(index * partBytes, Math.min(partBytes, bytes - index * partBytes));
      const ContentMD5 = createHash('md5').update(part).digest('base64');
      const answer = await send((client) =>
        client.send(new UploadPartCommand({ ...upload, PartNumber: index + 1, Body: part, ContentMD5 })),
      );
      tags[index] = answer.ETag ?? '';
      sent += part.length;
      onBytes(sent);
    }
  };
  try {
    const workers = Array.from({ length: AT_ONCE }, () =>
      work().catch((error: unknown) => {
        failed = true;
        throw error;
      }),
    );
    const outcomes = await Promise.allSettled(workers);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    const Parts = tags.map((ETag, index) => ({ PartNumber: index + 1, ETag }));
    await send((client) => client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } })));
  } catch (error) {
    // Parts of an upload that never ends are paid for; the first failure is the one to tell.
    await send((client) => client.send(new AbortMultipartUploadCommand(upload))).catch(() => {});
    throw error;
  }
}
