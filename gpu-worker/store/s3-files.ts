/** S3Files: the files at s3://bucket/prefix: published under a manifest, or in Hugging Face layout as anybody uploads them. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { NibbleError } from '../../core/errors.ts';
import type { ChunkedFile } from './chunk-reader.ts';
import type { DiskCache } from './disk-cache.ts';
import {
  CHUNK_BYTES,
  decodeManifest,
  decodePointer,
  MAX_MANIFEST_BYTES,
  type Manifest,
  type ManifestFile,
} from './manifest.ts';
import { below, formatS3, type S3Address } from './s3-address.ts';
import type { S3Bucket, S3Object } from './s3-bucket.ts';

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

/** A file with what its chunks are known by, everywhere and for good. */
export type RemoteFile = ChunkedFile & { identity: string };

export interface S3Files {
  /** By name. */
  files: Map<string, RemoteFile>;
  /** As StoredModel has it. */
  identity: string;
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

/** A prefix that ends in .safetensors is that one file. null where nothing is. */
export async function findS3Files(
  bucket: S3Bucket,
  address: S3Address,
  disk: DiskCache | null,
): Promise<S3Files | null> {
  const isLone = isLoneFile(address);
  const published = isLone ? null : await readManifest(bucket, address);
  const files =
    published === null
      ? await plainFiles(bucket, address, isLone, disk)
      : publishedFiles(bucket, address, published.manifest, disk);
  if (files.size === 0) return null;
  const identity = published === null ? digest([...files.values()].map((file) => file.identity)) : published.id;
  return { files, identity };
}

export function isLoneFile({ prefix }: S3Address): boolean {
  return prefix.endsWith('.safetensors');
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
        rule: `bytes [${begin}, ${begin + into.length}) have the checksum ${found}, the manifest says ${checksums[index]}; nibble weights push --force sends it again`,
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
  disk: DiskCache | null,
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
