/** Local: a model's files on this machine's disk: a directory in Hugging Face layout, or one .safetensors file. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { NibbleError } from '../../core/errors.ts';
import type { ByteSource } from '../../core/formats/byte-source.ts';
import type { StoredModel } from './stored-model.ts';
import { countYoungBytes } from './young-memory.ts';

/** Of files that this process can reach by their paths. */
export interface LocalModel extends StoredModel {
  /** Absolute path of the directory that its files are in. */
  readonly directory: string;
  /** Name, size and time of change of each file: what tells this model from another at the same place. */
  fingerprint(): Promise<readonly [name: string, bytes: number, changedMs: number][]>;
}

/** What identity() holds of a file at once. */
const PIECE_BYTES = 8 << 20;
/** Node ends the process when it is asked for 2 GiB at once, and there are embeddings larger than that. */
const MOST_READ_BYTES = 1 << 30;

export async function openLocalModel(path: string): Promise<LocalModel> {
  const full = resolve(path);
  const found = await stat(full).catch(() => null);
  if (found === null)
    throw new NibbleError({
      code: 'file_missing',
      file: path,
      reason:
        'there is no such directory or file (elsewhere, a model is organization/name on the Hub, or s3://bucket/prefix)',
    });
  const directory = found.isDirectory() ? full : dirname(full);
  const handles: FileHandle[] = [];
  const openFile = async (name: string): Promise<ByteSource | null> => {
    const handle = await open(join(directory, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw new NibbleError({
        code: 'file_missing',
        file: join(path, name),
        reason: `cannot be opened: ${error.code}`,
      });
    });
    if (handle === null) return null;
    handles.push(handle);
    const { size } = await handle.stat();
    return {
      name: join(found.isDirectory() ? path : dirname(path), name),
      size,
      read: (offset, length) => readFully(handle, offset, length),
    };
  };
  const lone = found.isDirectory() ? null : await openFile(basename(full));
  const list = async () => {
    const entries = await readdir(directory, { withFileTypes: true });
    // The Hub's cache links to its blobs; other links may lead to folders, or nowhere.
    const isFile = await Promise.all(
      entries.map(async (entry) =>
        entry.isSymbolicLink()
          ? (await stat(join(directory, entry.name)).catch(() => null))?.isFile() === true
          : entry.isFile(),
      ),
    );
    return entries.filter((_, i) => isFile[i]).map(({ name }) => name);
  };
  return {
    name: path,
    baseName: basename(full),
    directory,
    open: openFile,
    list,
    async fingerprint() {
      const names = (await list()).toSorted();
      return Promise.all(
        names.map(async (name): Promise<[string, number, number]> => {
          const { size, mtimeMs } = await stat(join(directory, name));
          return [name, size, mtimeMs];
        }),
      );
    },
    async identity() {
      const hash = createHash('sha256');
      for (const name of (lone === null ? await list() : [basename(full)]).sort()) {
        const source = await openFile(name);
        if (source === null) continue;
        hash.update(`${name} ${source.size}\n`);
        for (let offset = 0; offset < source.size; offset += PIECE_BYTES)
          hash.update(await source.read(offset, PIECE_BYTES));
      }
      return hash.digest('hex');
    },
    ...(lone === null ? {} : { lone }),
    async close() {
      await Promise.all(handles.splice(0).map((handle) => handle.close()));
    },
  };
}

/** May return fewer bytes only when the file ends; the format's reader reports that by tensor. */
async function readFully(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  // The tensor before it goes before this one is there.
  countYoungBytes(length);
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, Math.min(MOST_READ_BYTES, length - filled), offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled === length ? bytes : bytes.subarray(0, filled);
}
