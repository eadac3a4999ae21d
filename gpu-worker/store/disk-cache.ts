/** DiskCache: chunks of remote files on this machine's disk, shared by its processes; the least recently used go first. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { acquireLock, type HeldLock } from './file-lock.ts';

/** Under the cache's directory, which other programs may share. */
const FOLDER = 'nibble-chunks';
/** What follows a chunk's bytes in its file: its CRC-32, little-endian. A write that a crash cut short does not have the right one. */
const TRAILER_BYTES = 4;
/** Evicting goes a little below the limit, so that the next chunk does not start it again. */
const EVICT_TO = 0.95;
/** A temporary file or a lock so old belongs to nobody. */
const ABANDONED_MS = 3_600_000;

/** A file's time is a tick of the kernel's, which may be a little before the moment it was written. */
const CLOCK_SLACK_MS = 100;

interface CachedFile {
  path: string;
  bytes: number;
  usedMs: number;
}

/**
 * Every chunk is a file of its own that appears by a rename, named by what it is a chunk of, and is read only with the right
 * checksum: whatever dies whenever, nothing wrong is ever read. Locks only spare a second download of the same chunk.
 */
export class DiskCache {
  readonly #directory: string;
  readonly #limitBytes: number;
  readonly #log: (line: string) => void;
  readonly #openedMs = Date.now() - CLOCK_SLACK_MS;
  /** Of all files, as far as this process knows; null before it looked. */
  #usedBytes: number | null = null;
  /** Set once nothing can be written any more: reading goes on. */
  #closed = false;

  constructor(directory: string, limitBytes: number, log: (line: string) => void) {
    this.#directory = join(directory, FOLDER);
    this.#limitBytes = limitBytes;
    this.#log = log;
  }

  /** Fills `into` with the chunk from the disk, or by `fetch`, whose bytes are then kept. `id` says what they are. */
  async through(id: string, into: Uint8Array, fetch: (into: Uint8Array) => Promise<void>): Promise<'disk' | 'fetched'> {
    const path = this.#pathOf(id);
    if (await this.#read(path, into)) return 'disk';
    const lock = await this.#lock(path);
    try {
      if (lock?.waited && (await this.#read(path, into))) return 'disk';
      await fetch(into);
      if (lock !== null) await this.#write(path, into);
      return 'fetched';
    } finally {
      await lock?.release();
    }
  }

  #pathOf(id: string): string {
    const name = createHash('sha256').update(id).digest('hex');
    return join(this.#directory, name.slice(0, 2), name);
  }

  async #read(path: string, into: Uint8Array): Promise<boolean> {
    const handle = await open(path, 'r').catch(() => null);
    if (handle === null) return false;
    try {
      const trailer = new Uint8Array(TRAILER_BYTES);
      const { bytesRead } = await handle.readv([into, trailer], 0);
      const isWhole = bytesRead === into.length + TRAILER_BYTES;
      if (!isWhole || crc32(into) !== new DataView(trailer.buffer).getUint32(0, true)) {
        this.#log(`the disk cache's ${path} is damaged; it is fetched again`);
        await rm(path, { force: true });
        return false;
      }
      const now = new Date();
      await utimes(path, now, now).catch(() => {});
      return true;
    } catch {
      return false;
    } finally {
      await handle.close();
    }
  }

  /** null when the disk does not take even a lock: then the chunk is fetched and not kept. */
  async #lock(path: string): Promise<HeldLock | null> {
    if (this.#closed) return null;
    try {
      await mkdir(join(path, '..'), { recursive: true });
      return await acquireLock(`${path}.lock`);
    } catch (error) {
      this.#close(error);
      return null;
    }
  }

  async #write(path: string, chunk: Uint8Array): Promise<void> {
    const bytes = chunk.length + TRAILER_BYTES;
    const temporary = `${path}.${randomUUID()}.tmp`;
    try {
      if (!(await this.#makeRoom(bytes))) return;
      const trailer = new Uint8Array(TRAILER_BYTES);
      new DataView(trailer.buffer).setUint32(0, crc32(chunk), true);
      const handle = await open(temporary, 'wx');
      try {
        await handle.writeFile(chunk);
        await handle.writeFile(trailer);
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
      this.#usedBytes! += bytes;
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      this.#close(error);
    }
  }

  /** Never at the cost of a chunk used since this process began: a model larger than the limit would push itself out for nothing. */
  async #makeRoom(bytes: number): Promise<boolean> {
    if (this.#closed) return false;
    this.#usedBytes ??= (await this.#files()).reduce((sum, file) => sum + file.bytes, 0);
    if (this.#usedBytes + bytes <= this.#limitBytes) return true;
    await mkdir(this.#directory, { recursive: true });
    const lock = await acquireLock(join(this.#directory, 'evict.lock'));
    try {
      const files = (await this.#files()).sort((a, b) => a.usedMs - b.usedMs);
      let used = files.reduce((sum, file) => sum + file.bytes, 0);
      for (const file of files) {
        if (used + bytes <= this.#limitBytes * EVICT_TO || file.usedMs >= this.#openedMs) break;
        await rm(file.path, { force: true });
        used -= file.bytes;
      }
      this.#usedBytes = used;
    } finally {
      await lock.release();
    }
    if (this.#usedBytes + bytes <= this.#limitBytes) return true;
    this.#closed = true;
    this.#log(
      `the disk cache has reached its limit of ${this.#limitBytes} bytes with what is in use now; the rest of this model is not kept`,
    );
    return false;
  }

  /** Whole chunks; what others left half-written long ago is removed on the way. */
  async #files(): Promise<CachedFile[]> {
    const names = await readdir(this.#directory, { recursive: true }).catch(() => []);
    const files: CachedFile[] = [];
    for (const name of names) {
      const path = join(this.#directory, name);
      const found = await stat(path).catch(() => null);
      if (found === null || !found.isFile()) continue;
      if (!/\.(tmp|lock)$/.test(name)) files.push({ path, bytes: found.size, usedMs: found.mtimeMs });
      else if (Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
    }
    return files;
  }

  #close(error: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOSPC' ? 'the disk is full (ENOSPC)' : (code ?? message);
    this.#log(
      `the disk cache in ${this.#directory} cannot be written: ${reason}; loading goes on without keeping more`,
    );
  }
}
