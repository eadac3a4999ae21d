/** ChunkReader: reads of any range from files that come in checked chunks, several in flight, the next ones before they are asked for. */

import { countYoungBytes } from './young-memory.ts';

/** One file in chunks of `chunkBytes`; the last may be shorter. */
export interface ChunkedFile {
  /** Unique within the reader. */
  readonly name: string;
  readonly bytes: number;
  readonly chunkBytes: number;
  /** Fills `into` with the chunk, checked. It is shared memory: another thread may do it. */
  fetch(index: number, into: Uint8Array): Promise<void>;
}

/** Chunks in flight or held at once: 40 MiB of the usual ones, whatever the model's size. */
const WINDOW = 10;
/** In flight: enough to hide a store's latency. */
const AT_ONCE = 8;
/** From here on, reading ahead does not push out what will be needed later. */
const LEAST_AHEAD = 5;

interface Chunk {
  key: string;
  memory: Uint8Array;
  bytes: Promise<Uint8Array>;
  /** Reads that wait for it or copy from it: while there are any it stays. */
  readers: number;
  isReady: boolean;
}

/** An announced range's part in a chunk. It is used up by the read that takes its last byte. */
interface Use {
  /** In `#expected`. */
  position: number;
  /** In the file. */
  end: number;
}

interface Expected {
  file: ChunkedFile;
  index: number;
}

/** Reads follow one another, mostly in the order that `expect` announced; others are right too, and slower. */
export class ChunkReader {
  readonly #chunks = new Map<string, Chunk>();
  readonly #spare: Uint8Array[] = [];
  readonly #expected: Expected[] = [];
  /** What a chunk still has before it, by ascending position. */
  readonly #uses = new Map<string, Use[]>();
  #numInFlight = 0;
  /** Everything before it has been asked for, is here, or was skipped. */
  #cursor = 0;
  #isClosed = false;

  /** The ranges that will be read next, in this order, after those announced before. */
  expect(file: ChunkedFile, ranges: readonly { offset: number; length: number }[]): void {
    for (const { offset, length } of ranges)
      for (const index of chunksOf(file, offset, length)) {
        const key = keyOf(file, index);
        const uses = this.#uses.get(key) ?? [];
        uses.push({
          position: this.#expected.length,
          end: Math.min(offset + length, (index + 1) * file.chunkBytes, file.bytes),
        });
        this.#uses.set(key, uses);
        this.#expected.push({ file, index });
      }
  }

  /** A copy of the bytes; short where the file ends. */
  async read(file: ChunkedFile, offset: number, length: number): Promise<Uint8Array> {
    const end = Math.min(offset + length, file.bytes);
    countYoungBytes(Math.max(0, end - offset));
    // Every byte is filled or the read fails; in memory of its own, which the formats can use without a copy.
    const bytes = new Uint8Array(Buffer.allocUnsafeSlow(Math.max(0, end - offset)).buffer);
    const indices = [...chunksOf(file, offset, bytes.length)];
    const taken: Chunk[] = [];
    let done = 0;
    try {
      for (const index of indices) {
        while (taken.length < Math.min(indices.length, done + AT_ONCE))
          taken.push(this.#take(file, indices[taken.length]!, offset, end));
        this.#readAhead();
        const source = await taken[done]!.bytes;
        const begin = index * file.chunkBytes;
        const from = Math.max(0, offset - begin);
        bytes.set(source.subarray(from, Math.min(source.length, end - begin)), Math.max(0, begin - offset));
        taken[done++]!.readers--;
      }
    } finally {
      for (const chunk of taken.slice(done)) chunk.readers--;
    }
    return bytes;
  }

  close(): void {
    this.#isClosed = true;
    this.#expected.length = 0;
    this.#uses.clear();
    this.#chunks.clear();
    this.#spare.length = 0;
  }

  /** For a read of [offset, end). */
  #take(file: ChunkedFile, index: number, offset: number, end: number): Chunk {
    const key = keyOf(file, index);
    const uses = this.#uses.get(key) ?? [];
    const used = uses.findIndex((use) => use.end > offset && use.end <= end);
    if (used >= 0) this.#cursor = Math.max(this.#cursor, uses.splice(used, 1)[0]!.position + 1);
    let chunk = this.#chunks.get(key);
    if (chunk === undefined) {
      this.#makeRoom(null);
      chunk = this.#start(file, index);
    }
    chunk.readers++;
    return chunk;
  }

  /** Starts what comes next while there is room, or while something here is needed later than it. */
  #readAhead(): void {
    for (let position = this.#cursor; position < this.#expected.length && this.#numInFlight < AT_ONCE; position++) {
      const { file, index } = this.#expected[position]!;
      if (this.#chunks.has(keyOf(file, index))) continue;
      if (!this.#makeRoom(position)) return;
      this.#start(file, index);
    }
  }

  /**
   * Whether one more chunk may be held, needed at `position`; null: at once. Frees one that nobody needs again; else, for a read that
   * waits, or while little is read ahead and no place will come free by itself, the one needed last: it will be fetched twice.
   */
  #makeRoom(position: number | null): boolean {
    if (this.#chunks.size < WINDOW) return true;
    let victim: Chunk | null = null;
    let [latest, numAhead, numLeaving] = [position ?? -1, 0, 0];
    for (const chunk of this.#chunks.values()) {
      const use = this.#uses.get(chunk.key)?.find(({ position }) => position >= this.#cursor);
      const next = use?.position ?? Number.POSITIVE_INFINITY;
      if (position !== null && next < position) numAhead++;
      if (chunk.readers > 0 && next === Number.POSITIVE_INFINITY) numLeaving++;
      if (chunk.readers > 0 || !chunk.isReady || next <= latest) continue;
      victim = chunk;
      latest = next;
    }
    if (victim === null) return false;
    const costs = latest < Number.POSITIVE_INFINITY;
    if (position !== null && costs && (numAhead >= LEAST_AHEAD || numLeaving > 0)) return false;
    this.#chunks.delete(victim.key);
    if (this.#spare.length < WINDOW) this.#spare.push(victim.memory);
    return true;
  }

  #start(file: ChunkedFile, index: number): Chunk {
    const size = Math.min(file.chunkBytes, file.bytes - index * file.chunkBytes);
    const fits = this.#spare.findIndex((spare) => spare.length >= size);
    const memory =
      fits < 0
        ? new Uint8Array(new SharedArrayBuffer(Math.min(file.chunkBytes, file.bytes)))
        : this.#spare.splice(fits, 1)[0]!;
    const into = memory.subarray(0, size);
    this.#numInFlight++;
    const chunk: Chunk = {
      key: keyOf(file, index),
      memory,
      readers: 0,
      isReady: false,
      bytes: file
        .fetch(index, into)
        .finally(() => {
          this.#numInFlight--;
        })
        .then(() => {
          chunk.isReady = true;
          this.#readAhead();
          return into;
        }),
    };
    // Read ahead and failed: whoever asks for it tries again and is told.
    chunk.bytes.catch(() => {
      if (this.#chunks.get(chunk.key) === chunk) this.#chunks.delete(chunk.key);
    });
    if (!this.#isClosed) this.#chunks.set(chunk.key, chunk);
    return chunk;
  }
}

function keyOf(file: ChunkedFile, index: number): string {
  return `${index} ${file.name}`;
}

function* chunksOf({ chunkBytes }: ChunkedFile, offset: number, length: number): Generator<number> {
  if (length === 0) return;
  for (let index = Math.floor(offset / chunkBytes); index * chunkBytes < offset + length; index++) yield index;
}
