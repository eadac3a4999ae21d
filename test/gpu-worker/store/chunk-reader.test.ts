import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type ChunkedFile, ChunkReader } from '../../../gpu-worker/store/chunk-reader.ts';

const CHUNK = 10;

/** A file whose byte i is i mod 251, and what was fetched of it. */
class CountedFile implements ChunkedFile {
  readonly name: string;
  readonly chunkBytes = CHUNK;
  readonly bytes: number;
  readonly fetched: number[] = [];
  inFlight = 0;
  mostInFlight = 0;
  failures = new Set<number>();

  constructor(name: string, bytes: number) {
    this.name = name;
    this.bytes = bytes;
  }

  async fetch(index: number, into: Uint8Array): Promise<void> {
    this.fetched.push(index);
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    await setImmediate();
    this.inFlight--;
    if (this.failures.delete(index)) throw new Error(`chunk ${index} failed`);
    into.forEach((_, i) => {
      into[i] = (index * CHUNK + i) % 251;
    });
  }
}

const bytesAt = (offset: number, length: number) => Uint8Array.from({ length }, (_, i) => (offset + i) % 251);

/** Deterministic. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe('ChunkReader', () => {
  test('any ranges of any files in any order are right, announced or not, one after another or at once', async () => {
    const next = random(7);
    const files = [new CountedFile('a', 995), new CountedFile('b', 3000), new CountedFile('c', 3)];
    const reader = new ChunkReader();
    for (let round = 0; round < 40; round++) {
      const wanted = Array.from({ length: 12 }, () => {
        const file = files[next(3)]!;
        const offset = next(file.bytes);
        return { file, offset, length: next(file.bytes - offset + 1) };
      });
      for (const { file, offset, length } of wanted) if (next(2) === 0) reader.expect(file, [{ offset, length }]);
      const read = ({ file, offset, length }: (typeof wanted)[number]) => reader.read(file, offset, length);
      const results = round % 2 === 0 ? await Promise.all(wanted.map(read)) : [];
      for (const [i, want] of wanted.entries()) {
        const result = results[i] ?? (await read(want));
        expect(result).toEqual(bytesAt(want.offset, want.length));
      }
    }
    reader.close();
  });

  test('a file read in the announced order is fetched once, chunk by chunk, ahead of the reads, never more than 8 at a time and 10 in all', async () => {
    const file = new CountedFile('model', 2003);
    const reader = new ChunkReader();
    const ranges = Array.from({ length: 286 }, (_, i) => ({ offset: i * 7, length: 7 }));
    reader.expect(file, ranges);
    expect(await reader.read(file, 0, 7)).toEqual(bytesAt(0, 7));
    for (let i = 0; i < 50; i++) await setImmediate();
    expect(file.fetched).toHaveLength(10);
    for (const { offset, length } of ranges.slice(1))
      expect(await reader.read(file, offset, length)).toEqual(bytesAt(offset, length));
    expect(file.fetched).toEqual(Array.from({ length: 201 }, (_, i) => i));
    expect(file.mostInFlight).toBe(8);
  });

  test('a tensor that is announced whole and read in rows is fetched once', async () => {
    const file = new CountedFile('model', 403);
    const reader = new ChunkReader();
    reader.expect(file, [
      { offset: 3, length: 300 },
      { offset: 303, length: 100 },
    ]);
    for (let offset = 3; offset < 303; offset += 4) {
      expect(await reader.read(file, offset, 4)).toEqual(bytesAt(offset, 4));
      // Rows are worked on between the reads, while chunks arrive.
      for (let i = 0; i < 3; i++) await setImmediate();
    }
    expect(await reader.read(file, 303, 100)).toEqual(bytesAt(303, 100));
    expect(file.fetched).toEqual(Array.from({ length: 41 }, (_, i) => i));
  });

  test('a chunk that two tensors share waits for the second, though others are read in between', async () => {
    const file = new CountedFile('model', 400);
    const reader = new ChunkReader();
    // As query, key, value, output lie in a file: key, output, query, value.
    const order = [
      { offset: 205, length: 100 },
      { offset: 5, length: 100 },
      { offset: 305, length: 90 },
      { offset: 105, length: 100 },
    ];
    reader.expect(file, order);
    for (const { offset, length } of order) await reader.read(file, offset, length);
    expect([...file.fetched].sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
  });

  test('a chunk that failed ahead of its read is fetched again when it is asked for', async () => {
    const file = new CountedFile('model', 100);
    file.failures.add(3);
    const reader = new ChunkReader();
    reader.expect(file, [{ offset: 0, length: 100 }]);
    await reader.read(file, 0, 10);
    for (let i = 0; i < 10; i++) await setImmediate();
    expect(await reader.read(file, 10, 90)).toEqual(bytesAt(10, 90));
    expect(file.fetched.filter((index) => index === 3)).toHaveLength(2);
  });

  test('a read across the end is short; one that fails says why and leaves the next unharmed', async () => {
    const file = new CountedFile('model', 25);
    const reader = new ChunkReader();
    expect(await reader.read(file, 20, 100)).toEqual(bytesAt(20, 5));
    expect(await reader.read(file, 25, 1)).toEqual(new Uint8Array(0));
    file.failures.add(0);
    await expect(reader.read(file, 0, 10)).rejects.toThrow('chunk 0 failed');
    expect(await reader.read(file, 0, 10)).toEqual(bytesAt(0, 10));
  });
});
