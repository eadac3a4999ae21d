/** S3Model: a model at s3://bucket/prefix, its chunks fetched by a thread of its own while this one loads. */
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import { type ChunkedFile, ChunkReader } from './chunk-reader.ts';
import { Fetcher, type RemoteOptions } from './fetcher.ts';
import { formatS3, parseS3Address } from './s3-address.ts';
import { isLoneFile } from './s3-files.ts';
import type { StoredModel } from './stored-model.ts';

/** Throws `file_missing` where there is neither a manifest nor a file. */
export async function openS3Model(text: string, options: RemoteOptions): Promise<StoredModel> {
  const found = await findS3Model(text, options);
  if (found !== null) return found;
  throw new NibbleError({
    code: 'file_missing',
    file: text,
    reason: 'there is no model: no object lies there (nibble weights push publishes one)',
  });
}

/** The same; null where nothing is. */
export async function findS3Model(text: string, options: RemoteOptions): Promise<StoredModel | null> {
  const address = parseS3Address(text);
  const fetcher = new Fetcher(options);
  const found = await fetcher.open(address).catch(async (error: unknown) => {
    await fetcher.close();
    throw error;
  });
  if (found === null) {
    await fetcher.close();
    return null;
  }
  const { files, identity } = found;
  const reader = new ChunkReader();
  const sourceOf = (file: ChunkedFile): ByteSource => ({
    name: file.name,
    size: file.bytes,
    read: (offset, length) => reader.read(file, offset, length),
    expect: (ranges) => reader.expect(file, ranges),
  });
  const baseName = address.prefix.split('/').pop() || address.bucket;
  return {
    name: formatS3(address),
    baseName,
    async open(path) {
      const file = files.get(path);
      return file === undefined ? null : sourceOf(file);
    },
    list: async () => [...files.keys()],
    identity: async () => identity,
    ...(isLoneFile(address) ? { lone: sourceOf(files.get(baseName)!) } : {}),
    async close() {
      reader.close();
      await fetcher.close();
    },
  };
}
