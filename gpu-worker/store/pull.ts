/** Pull: a model's files from S3 to this disk, whole and checked. */
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import { progressBar } from '../progress.ts';
import type { RemoteOptions } from './fetcher.ts';
import { acquireLock } from './file-lock.ts';
import { parseS3Address } from './s3-address.ts';
import { readManifest } from './s3-files.ts';
import { openS3Model } from './s3-model.ts';
import type { StoredModel } from './stored-model.ts';

/** What is read at once while a whole file is copied or hashed. */
const PIECE_BYTES = 16 << 20;
/** Under the cache's directory. */
const FOLDER = 'nibble-models';
const IDENTITY_DIGITS = 32;

/** File name → SHA-256; null for what was never published. */
export async function publishedHashes(model: string): Promise<Map<string, string> | null> {
  const address = parseS3Address(model);
  const { S3Bucket } = await import('./s3-bucket.ts');
  const bucket = new S3Bucket(address.bucket, null);
  try {
    const published = await readManifest(bucket, address);
    return published === null ? null : new Map(published.manifest.files.map(({ name, sha256 }) => [name, sha256]));
  } finally {
    bucket.close();
  }
}

/** Throws `file_invalid`. What has no hash is taken as it is. */
export function expectHash(file: string, found: string, wanted: string | undefined): void {
  if (wanted === undefined || found === wanted) return;
  const rule = `has the SHA-256 ${found}, its manifest says ${wanted}; nibble weights push --force sends it again`;
  throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
}

/** A whole file, in order. */
export async function* piecesOf(source: ByteSource): AsyncGenerator<Uint8Array> {
  source.expect?.([{ offset: 0, length: source.size }]);
  for (let offset = 0; offset < source.size; offset += PIECE_BYTES) yield await source.read(offset, PIECE_BYTES);
}

/** Into an empty directory. Resolves to the number of files and of their bytes. */
export async function pullFiles(
  model: StoredModel,
  hashes: ReadonlyMap<string, string> | null,
  directory: string,
  onBytes: (done: number, total: number) => void,
): Promise<{ files: number; bytes: number }> {
  const names = await model.list();
  const sources = await Promise.all(names.map(async (name) => ({ name, source: (await model.open(name))! })));
  const total = sources.reduce((sum, { source }) => sum + source.size, 0);
  let bytes = 0;
  for (const { name, source } of sources) {
    const handle = await open(join(directory, name), 'wx');
    const hash = createHash('sha256');
    try {
      for await (const piece of piecesOf(source)) {
        hash.update(piece);
        await handle.writeFile(piece);
        bytes += piece.length;
        onBytes(bytes, total);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    expectHash(source.name, hash.digest('hex'), hashes?.get(name));
  }
  return { files: names.length, bytes };
}

/** The model's files in a folder of the cache that is named by their identity; fetched once. Resolves to the folder, or to the lone file in it. */
export async function keepS3Model(text: string, cache: string, remote: RemoteOptions): Promise<string> {
  const model = await openS3Model(text, remote);
  try {
    const name = (await model.identity()).slice(0, IDENTITY_DIGITS);
    const home = join(cache, FOLDER);
    const directory = join(home, name);
    await mkdir(home, { recursive: true });
    const lock = await acquireLock(join(home, `${name}.lock`));
    try {
      if ((await stat(directory).catch(() => null)) === null) await fetchInto(directory);
    } finally {
      await lock.release();
    }
    return model.lone === undefined ? directory : join(directory, model.baseName);

    async function fetchInto(directory: string): Promise<void> {
      // Of runs that were killed.
      for (const left of await readdir(home))
        if (left.startsWith(`${name}.`) && left.endsWith('.tmp')) await rm(join(home, left), { recursive: true });
      const temporary = `${directory}.${process.pid}.tmp`;
      await mkdir(temporary);
      try {
        await pullFiles(model, await publishedHashes(text), temporary, progressBar(`Fetching ${text} (bytes)`));
        await rename(temporary, directory);
      } catch (error) {
        await rm(temporary, { recursive: true, force: true }).catch(() => {});
        throw error;
      }
    }
  } finally {
    await model.close();
  }
}
