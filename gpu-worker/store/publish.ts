/** Publish: a model's files to s3://bucket/prefix, as blobs named by their SHA-256 and a manifest that appears when all of them are there. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import { CHUNK_BYTES, encodeManifest, encodePointer, isFileName, type ManifestFile } from './manifest.ts';
import { below, formatS3, type S3Address } from './s3-address.ts';
import { S3Bucket, type S3Connection } from './s3-bucket.ts';
import { blobKey, manifestKey, POINTER } from './s3-files.ts';
import type { StoredModel } from './stored-model.ts';

/** Weights in forms that are not loaded, and files that are nobody's business. */
const LEFT_BEHIND = /^\.|\.(bin|pt|pth|ckpt|gguf|ggml|onnx|h5|msgpack|tflite)$/;
/** Up to this an object goes in one request. */
const SMALL_BYTES = 16 << 20;

export interface Published {
  /** The manifest's name. */
  id: string;
  address: string;
  files: number;
  bytes: number;
  /** Of those: what was not there before. */
  sentBytes: number;
}

export interface PublishOptions {
  s3: S3Connection | null;
  /** The name that lists show. */
  model: string;
  /** As manifest.ts has it. */
  quantization: string | null;
  /** Whether blobs that are there are sent all the same: one may be damaged. */
  sendAgain?: boolean;
  onProgress: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Files are read twice, to hash and to send; a blob that is there already is not sent again, so a push that was cut off goes on where it
 * was. Those who read an earlier manifest go on reading it.
 */
export async function publish(files: StoredModel, address: S3Address, options: PublishOptions): Promise<Published> {
  const bucket = new S3Bucket(address.bucket, options.s3);
  try {
    const sources: { name: string; source: ByteSource }[] = [];
    for (const name of await filesOf(files)) {
      const source = await files.open(name);
      if (source !== null) sources.push({ name, source });
    }
    const odd = sources.find(({ name }) => !isFileName(name));
    if (odd !== undefined)
      throw new NibbleError({
        code: 'file_invalid',
        file: files.name,
        tensor: null,
        rule: `a file is named "${odd.name}", which not every system takes; rename or remove it`,
      });
    if (!sources.some(({ name }) => name.endsWith('.safetensors')))
      throw new NibbleError({
        code: 'file_missing',
        file: files.name,
        reason: 'there is no .safetensors file to push',
      });
    const totalBytes = sources.reduce((sum, { source }) => sum + source.size, 0);
    let [doneBytes, sentBytes] = [0, 0];
    const entries: ManifestFile[] = [];
    for (const { name, source } of sources) {
      const entry = await describeFile(name, source, (bytes) =>
        options.onProgress(doneBytes + Math.floor(bytes / 2), totalBytes),
      );
      const onSent = (bytes: number) =>
        options.onProgress(doneBytes + Math.floor((source.size + bytes) / 2), totalBytes);
      const key = blobKey(address, entry.sha256);
      if (options.sendAgain === true || (await bucket.head(key))?.bytes !== source.size) {
        await sendBlob(bucket, key, source, onSent);
        sentBytes += source.size;
      }
      entries.push(entry);
      doneBytes += source.size;
      options.onProgress(doneBytes, totalBytes);
    }
    const { model, quantization } = options;
    const manifest = encodeManifest({ model, quantization, chunkBytes: CHUNK_BYTES, files: entries });
    await bucket.writeSmall(manifestKey(address, manifest.id), manifest.bytes, 'application/json');
    await bucket.writeSmall(below(address, POINTER).prefix, encodePointer(manifest.id), 'application/json');
    return { id: manifest.id, address: formatS3(address), files: entries.length, bytes: totalBytes, sentBytes };
  } finally {
    bucket.close();
  }
}

async function filesOf(files: StoredModel): Promise<string[]> {
  if (files.lone !== undefined) return [files.baseName];
  return (await files.list()).filter((name) => !LEFT_BEHIND.test(name)).sort();
}

async function describeFile(
  name: string,
  source: ByteSource,
  onBytes: (hashed: number) => void,
): Promise<ManifestFile> {
  const hash = createHash('sha256');
  const checksums: string[] = [];
  source.expect?.([{ offset: 0, length: source.size }]);
  for (let offset = 0; offset < source.size; offset += CHUNK_BYTES) {
    const chunk = await readExactly(source, offset, Math.min(CHUNK_BYTES, source.size - offset));
    hash.update(chunk);
    checksums.push(crc32(chunk).toString(16).padStart(8, '0'));
    onBytes(offset + chunk.length);
  }
  return { name, bytes: source.size, sha256: hash.digest('hex'), crc32: checksums };
}

async function sendBlob(
  bucket: S3Bucket,
  key: string,
  source: ByteSource,
  onSent: (bytes: number) => void,
): Promise<void> {
  if (source.size > SMALL_BYTES)
    await bucket.writeLarge(key, source.size, (offset, length) => readExactly(source, offset, length), onSent);
  else await bucket.writeSmall(key, await readExactly(source, 0, source.size), 'application/octet-stream');
}

async function readExactly(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await source.read(offset, length);
  if (bytes.byteLength === length) return bytes;
  const rule = `${bytes.byteLength} bytes came back instead of ${length} from offset ${offset}`;
  throw new NibbleError({ code: 'file_invalid', file: source.name, tensor: null, rule });
}
