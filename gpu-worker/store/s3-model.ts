/** S3Model: a model at s3://bucket/prefix: published under a manifest, or files in Hugging Face layout as anybody uploads them. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import { type ChunkedFile, ChunkReader } from './chunk-reader.ts';
import type { DiskCache } from './disk-cache.ts';
import {
  CHUNK_BYTES,
  decodeManifest,
  decodePointer,
  MAX_MANIFEST_BYTES,
  type Manifest,
  type ManifestFile,
} from './manifest.ts';
import { below, formatS3, parseS3Address, type S3Address } from './s3-address.ts';
import { S3Bucket, type S3Connection, type S3Object } from './s3-bucket.ts';
import type { StoredModel } from './stored-model.ts';

/** Names the current manifest. */
export const POINTER = 'nibble-model.json';
const MANIFESTS = 'manifests';
const MAX_POINTER_BYTES = 1000;
/** A chunk that arrives wrong is fetched once more: a wire may lie once. */
const TRIES_PER_CHECKSUM = 2;

/** How a published model lies below its address. */
export function manifestKey(address: S3Address, id: string): string {
  return below(address, MANIFESTS, `${id}.json`).prefix;
}
export function blobKey(address: S3Address, sha256: string): string {
  return below(address, 'blobs', sha256).prefix;
}

/** What remote stores need: an S3 endpoint and where chunks are kept; null keeps none. */
export interface RemoteOptions {
  s3: S3Connection | null;
  disk: DiskCache | null;
}

/** null when nothing is published there: no manifest. Throws on everything else that is wrong. */
export async function readManifest(
  bucket: S3Bucket,
  address: S3Address,
): Promise<{ id: string; manifest: Manifest } | null> {
  const key = below(address, POINTER).prefix;
  const pointer = await bucket.readSmall(key, MAX_POINTER_BYTES);
  if (pointer === null) return null;
  const id = decodePointer(pointer, bucket.address(key));
  const path = manifestKey(address, id);
  const bytes = await bucket.readSmall(path, MAX_MANIFEST_BYTES);
  if (bytes === null)
    throw new NibbleError({
      code: 'file_missing',
      file: bucket.address(path),
      reason: `there is no such object, though ${POINTER} names it; push the model again`,
    });
  return { id, manifest: decodeManifest(bytes, id, bucket.address(path)) };
}

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
  const bucket = new S3Bucket(address.bucket, options.s3);
  try {
    const isLone = address.prefix.endsWith('.safetensors');
    const published = isLone ? null : await readManifest(bucket, address);
    const files =
      published === null
        ? await plainFiles(bucket, address, isLone, options)
        : publishedFiles(bucket, address, published.manifest, options.disk);
    if (files.size === 0) {
      bucket.close();
      return null;
    }
    const identity = published === null ? digest([...files.values()].map(({ identity }) => identity)) : published.id;
    return s3Model(address, bucket, files, identity, isLone);
  } catch (error) {
    bucket.close();
    throw error;
  }
}

/** A file with what its chunks are known by, everywhere and for good. */
type RemoteFile = ChunkedFile & { identity: string };

function s3Model(
  address: S3Address,
  bucket: S3Bucket,
  files: ReadonlyMap<string, RemoteFile>,
  identity: string,
  isLone: boolean,
): StoredModel {
  const reader = new ChunkReader();
  const sourceOf = (file: RemoteFile): ByteSource => ({
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
    ...(isLone ? { lone: sourceOf(files.get(baseName)!) } : {}),
    async close() {
      reader.close();
      bucket.close();
    },
  };
}

function publishedFiles(
  bucket: S3Bucket,
  address: S3Address,
  { files, chunkBytes }: Manifest,
  disk: DiskCache | null,
): Map<string, RemoteFile> {
  return new Map(
    files.map((file) => [
      file.name,
      publishedFile(bucket, blobKey(address, file.sha256), file, chunkBytes, disk, address),
    ]),
  );
}

function publishedFile(
  bucket: S3Bucket,
  key: string,
  { name, bytes, sha256, crc32: checksums }: ManifestFile,
  chunkBytes: number,
  disk: DiskCache | null,
  address: S3Address,
): RemoteFile {
  const file = formatS3(below(address, name));
  const identity = `sha256:${sha256}`;
  const fetch = async (index: number, into: Uint8Array): Promise<void> => {
    for (let tries = 1; ; tries++) {
      await bucket.readRange(key, null, index * chunkBytes, into);
      const found = crc32(into).toString(16).padStart(8, '0');
      if (found === checksums[index]) return;
      if (tries < TRIES_PER_CHECKSUM) continue;
      const begin = index * chunkBytes;
      throw new NibbleError({
        code: 'file_invalid',
        file,
        tensor: null,
        rule: `bytes [${begin}, ${begin + into.length}) have the checksum ${found}, the manifest says ${checksums[index]}; push the model again`,
      });
    }
  };
  return { name: file, identity, bytes, chunkBytes, fetch: cached(disk, identity, chunkBytes, fetch) };
}

/** Objects without a manifest have no checksums of ours; their ETag holds them to one version. */
async function plainFiles(
  bucket: S3Bucket,
  address: S3Address,
  isLone: boolean,
  { disk }: RemoteOptions,
): Promise<Map<string, RemoteFile>> {
  const directory = isLone || address.prefix === '' ? address.prefix : `${address.prefix}/`;
  const begin = isLone ? address.prefix.lastIndexOf('/') + 1 : directory.length;
  const ofObject = ({ key, bytes, etag }: S3Object): [string, RemoteFile] => {
    const identity = `${bucket.endpoint ?? 'aws'} ${bucket.address(key)} ${bytes} ${etag}`;
    const fetch = (index: number, into: Uint8Array) => bucket.readRange(key, etag, index * CHUNK_BYTES, into);
    return [
      key.slice(begin),
      {
        name: bucket.address(key),
        identity,
        bytes,
        chunkBytes: CHUNK_BYTES,
        fetch: cached(disk, identity, CHUNK_BYTES, fetch),
      },
    ];
  };
  const objects = await bucket.list(directory);
  const wanted = objects.filter(({ key }) => (isLone ? key === address.prefix : !key.slice(begin).includes('/')));
  return new Map(wanted.map(ofObject));
}

function cached(
  disk: DiskCache | null,
  identity: string,
  chunkBytes: number,
  fetch: ChunkedFile['fetch'],
): ChunkedFile['fetch'] {
  if (disk === null) return fetch;
  return async (index, into) => {
    await disk.through(`${identity} ${index} of ${chunkBytes}`, into, (memory) => fetch(index, memory));
  };
}

function digest(texts: readonly string[]): string {
  return createHash('sha256')
    .update([...texts].sort().join('\n'))
    .digest('hex');
}
