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
/** What other processes add is seen when this one has added so much itself: counting takes as long as there are files. */
const COUNT_AFTER = 0.05;
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
 * checksum: whatever dies whenever, nothing wrong is ever read. Locks only spare a second download of the same chunk. Processes that fill it at
 * once may pass its limit, each by as much as it adds between two counts.
 */
export class DiskCache {
  readonly #directory: string;
  readonly #limitBytes: number;
  readonly #log: (line: string) => void;
  readonly #openedMs = Date.now() - CLOCK_SLACK_MS;
  /** Of all files, as far as this process knows; null before it looked. */
  #usedBytes: number | null = null;
  /** Of what this process has written, and had when it looked. */
  #writtenBytes = 0;
  #writtenAtCount = 0;
  /** Of chunks that have their room and are being written. */
  #pendingBytes = 0;
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
      // Another process may have had the lock a moment ago.
      if (lock !== null && (await this.#read(path, into))) return 'disk';
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
    let hasRoom = false;
    try {
      if (!(await this.#makeRoom(bytes))) return;
      hasRoom = true;
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
      this.#writtenBytes += bytes;
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      this.#close(error);
    } finally {
      if (hasRoom) this.#pendingBytes -= bytes;
    }
  }

  /** Never at the cost of a chunk used since this process began: a model larger than the limit would push itself out for nothing. */
  async #makeRoom(bytes: number): Promise<boolean> {
    if (this.#closed) return false;
    const sinceCount = this.#writtenBytes - this.#writtenAtCount;
    if (this.#usedBytes === null || sinceCount + bytes > this.#limitBytes * COUNT_AFTER) {
      const writtenBefore = this.#writtenBytes;
      this.#counted(await this.#files(), writtenBefore);
    }
    if (this.#take(bytes)) return true;
    await mkdir(this.#directory, { recursive: true });
    const lock = await acquireLock(join(this.#directory, 'evict.lock'));
    try {
      const writtenBefore = this.#writtenBytes;
      const files = (await this.#files()).sort((a, b) => a.usedMs - b.usedMs);
      const wanted = this.#limitBytes * EVICT_TO - bytes - this.#pendingBytes;
      let used = files.reduce((sum, file) => sum + file.bytes, 0);
      while (used > wanted && files.length > 0 && files[0]!.usedMs < this.#openedMs) {
        const { path, bytes: freed } = files.shift()!;
        await rm(path, { force: true });
        used -= freed;
      }
      this.#counted(files, writtenBefore);
    } finally {
      await lock.release();
    }
    if (this.#take(bytes)) return true;
    if (this.#closed) return false;
    this.#closed = true;
    this.#log(
      `the disk cache has reached its limit of ${this.#limitBytes} bytes with what is in use now; the rest of this model is not kept`,
    );
    return false;
  }

  /** What was written while the files were looked at may not be among them. */
  #counted(files: readonly CachedFile[], writtenBefore: number): void {
    const meanwhile = this.#writtenBytes - writtenBefore;
    this.#usedBytes = files.reduce((sum, file) => sum + file.bytes, 0) + meanwhile;
    this.#writtenAtCount = writtenBefore;
  }

  /** Whether there is room; it is taken at once, for chunks are written side by side. */
  #take(bytes: number): boolean {
    if (this.#usedBytes! + this.#pendingBytes + bytes > this.#limitBytes) return false;
    this.#pendingBytes += bytes;
    return true;
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
