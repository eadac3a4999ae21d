import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DiskCache } from '../../../gpu-worker/store/disk-cache.ts';
import { acquireLock } from '../../../gpu-worker/store/file-lock.ts';

const BYTES = 1000;
/** A chunk's file has its checksum behind it. */
const FILE_BYTES = BYTES + 4;

let directory: string;
let lines: string[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nibble-disk-'));
  lines = [];
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const open = (limitBytes = 1e9) => new DiskCache(directory, limitBytes, (line) => lines.push(line));

/** Asks for the chunk called `id`, whose bytes are all `value`; tells where it came from. */
async function ask(cache: DiskCache, id: string, value: number): Promise<'disk' | 'fetched'> {
  const into = new Uint8Array(BYTES);
  const from = await cache.through(id, into, async (memory) => {
    memory.fill(value);
  });
  expect(into).toEqual(new Uint8Array(BYTES).fill(value));
  return from;
}

async function files(): Promise<string[]> {
  const found = await readdir(directory, { recursive: true, withFileTypes: true });
  return found.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

/** As if used so long ago. */
async function age(minutes: number): Promise<void> {
  const then = new Date(Date.now() - minutes * 60_000);
  for (const path of await files()) await utimes(path, then, then);
}

describe('DiskCache', () => {
  test('what was fetched comes from the disk, in another process too, and under its own name only', async () => {
    expect(await ask(open(), 'a', 1)).toBe('fetched');
    expect(await ask(open(), 'a', 1)).toBe('disk');
    expect(await ask(open(), 'b', 2)).toBe('fetched');
  });

  test.for(['cut short', 'changed', 'empty'] as const)(
    'a file that is %s is never read: it is fetched again',
    async (damage) => {
      await ask(open(), 'a', 1);
      const [path] = await files();
      if (damage === 'cut short') await truncate(path!, 500);
      if (damage === 'empty') await truncate(path!, 0);
      if (damage === 'changed') await writeFile(path!, new Uint8Array(FILE_BYTES).fill(3));
      expect(await ask(open(), 'a', 1)).toBe('fetched');
      expect(lines).toEqual([`the disk cache's ${path} is damaged; it is fetched again`]);
      expect(await ask(open(), 'a', 1)).toBe('disk');
    },
  );

  test('at the limit the least recently used go first', async () => {
    const limit = 5.5 * FILE_BYTES;
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      await age(1);
      await ask(open(limit), id, 1);
    }
    await age(1);
    // Used again: b is now the oldest but one.
    expect(await ask(open(limit), 'a', 1)).toBe('disk');
    const later = open(limit);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const newest = open(limit);
    expect(await ask(newest, 'f', 2)).toBe('fetched');
    expect(await ask(later, 'a', 1)).toBe('disk');
    expect((await files()).length).toBeLessThanOrEqual(5);
    expect(lines).toEqual([]);
  });

  test('a model larger than the limit does not push itself out: the first part stays, the rest is not kept', async () => {
    const cache = open(3 * FILE_BYTES);
    for (let i = 0; i < 8; i++) expect(await ask(cache, String(i), i)).toBe('fetched');
    expect(await files()).toHaveLength(3);
    expect(lines).toEqual([
      `the disk cache has reached its limit of ${3 * FILE_BYTES} bytes with what is in use now; the rest of this model is not kept`,
    ]);
    const again = open(3 * FILE_BYTES);
    for (let i = 0; i < 8; i++) expect(await ask(again, String(i), i)).toBe(i < 3 ? 'disk' : 'fetched');
  });

  test('the limit holds for chunks that come at once, and for processes that do not know of each other', async () => {
    const limit = 6 * FILE_BYTES;
    const caches = [open(limit), open(limit)];
    // Both know what is there before the other adds to it.
    for (const cache of caches) await ask(cache, 'first', 0);
    for (let round = 0; round < 4; round++)
      for (const [i, cache] of caches.entries()) await ask(cache, `${i} ${round}`, round);
    expect((await files()).length).toBeLessThanOrEqual(6);
    await rm(directory, { recursive: true });
    const one = open(limit);
    await Promise.all(Array.from({ length: 12 }, (_, i) => ask(one, String(i), i)));
    expect((await files()).length).toBeLessThanOrEqual(6);
  });

  test('many at once, in two caches on one directory, fetch each chunk once', async () => {
    const caches = [open(), open()];
    const asked = await Promise.all(Array.from({ length: 40 }, (_, i) => ask(caches[i % 2]!, String(i >> 2), i >> 2)));
    expect(asked.filter((from) => from === 'fetched')).toHaveLength(10);
    expect((await files()).filter((path) => /\.(lock|tmp)$/.test(path))).toEqual([]);
  });

  test('a fetch that fails leaves no lock and no file', async () => {
    const failing = open().through('a', new Uint8Array(BYTES), async () => {
      throw new Error('the store is away');
    });
    await expect(failing).rejects.toThrow('the store is away');
    expect(await files()).toEqual([]);
    expect(await ask(open(), 'a', 1)).toBe('fetched');
  });

  test('a place that cannot be written costs one line, not the load', async () => {
    await writeFile(join(directory, 'nibble-chunks'), 'a file where the directory should be');
    const cache = open();
    expect(await ask(cache, 'a', 1)).toBe('fetched');
    expect(await ask(cache, 'b', 2)).toBe('fetched');
    expect(lines).toEqual([
      `the disk cache in ${join(directory, 'nibble-chunks')} cannot be written: ENOTDIR; loading goes on without keeping more`,
    ]);
  });

  test('half-written files of long ago are removed when room is made', async () => {
    await ask(open(), 'a', 1);
    const [path] = await files();
    await writeFile(`${path}.00000000.tmp`, 'half');
    await age(120);
    await ask(open(FILE_BYTES), 'b', 2);
    expect(await files()).toHaveLength(1);
    expect(await ask(open(FILE_BYTES), 'b', 2)).toBe('disk');
  });
});

describe('a lock', () => {
  const path = () => join(directory, 'one.lock');

  test('of a process that has died is taken over at once', async () => {
    // The largest process id that Linux can give is 2^22.
    await writeFile(path(), JSON.stringify({ pid: 2 ** 22 + 1, host: hostname() }));
    const lock = await acquireLock(path());
    await lock.release();
    await expect(stat(path())).rejects.toThrow('ENOENT');
  });

  test('of another machine is taken over when it was not renewed', async () => {
    await writeFile(path(), JSON.stringify({ pid: process.pid, host: 'another machine' }));
    const then = new Date(Date.now() - 60_000);
    await utimes(path(), then, then);
    const lock = await acquireLock(path());
    await lock.release();
  });

  test.each(['', '{"pid":12', 'null', '{"pid":-1}'])('that says %j of its holder is waited for', async (text) => {
    await mkdir(directory, { recursive: true });
    await writeFile(path(), text);
    const waiting = acquireLock(path());
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await readFile(path(), 'utf8')).toBe(text);
    await rm(path());
    await (await waiting).release();
  });

  test('of a living process is waited for', async () => {
    await mkdir(directory, { recursive: true });
    const first = await acquireLock(path());
    let isHeld = false;
    const second = acquireLock(path()).then((lock) => {
      isHeld = true;
      return lock;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(isHeld).toBe(false);
    await first.release();
    await (await second).release();
    expect(isHeld).toBe(true);
  });
});
