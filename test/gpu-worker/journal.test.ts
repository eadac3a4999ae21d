/** Journal: what a worker writes down is read again, over several runs and a kill in mid-line. */
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Frame } from '../../core/protocol.ts';
import { Journal, type Produced, readJournal } from '../../gpu-worker/journal.ts';

const head = { worker: 'w', model: 'm', backend: 'wasm', started: '2026-11-21T00:00:00Z' };
const tokens = (jobId: string, epoch: number, from: number, ...ids: number[]): Frame => ({
  jobId,
  epoch,
  kind: 'tokens',
  from,
  tokens: ids.map((id) => ({ id, text: 'a secret text', logprob: -1, special: false, top: [] })),
});

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nibble-journal-'));
  path = join(folder, 'journal.jsonl');
});
afterEach(() => rm(folder, { recursive: true }));

async function all(): Promise<Produced[]> {
  const lines: Produced[] = [];
  for await (const line of readJournal(path)) lines.push(line);
  return lines;
}

test('two runs in one file are read in order; ids only, no text', async () => {
  const first = new Journal(path, head);
  first.append([{ jobId: 'j', epoch: 1, kind: 'started', promptTokens: 3, cachedTokens: 0 }, tokens('j', 1, 0, 5, 6)]);
  first.close();
  const second = new Journal(path, head);
  second.append([tokens('j', 2, 1, 6), tokens('k', 1, 0, 9)]);
  second.close();
  expect(await all()).toEqual([
    { job: 'j', epoch: 1, from: 0, ids: [5, 6] },
    { job: 'j', epoch: 2, from: 1, ids: [6] },
    { job: 'k', epoch: 1, from: 0, ids: [9] },
  ]);
  expect(await readFile(path, 'utf8')).not.toContain('secret');
});

test('a line that a kill cut off is skipped, also when another run follows it', async () => {
  new Journal(path, head).append([tokens('j', 1, 0, 5)]);
  await appendFile(path, '{"job":"j","epoch":1,"fr');
  new Journal(path, head).append([tokens('k', 1, 0, 9)]);
  expect((await all()).map(({ job }) => job)).toEqual(['j', 'k']);
});

test('a file that is no journal is refused by name', async () => {
  for (const text of ['', 'hello\n', '{"job":"j","epoch":1,"from":0,"ids":[1]}\n']) {
    await writeFile(path, text);
    await expect(all()).rejects.toThrow(/journal\.jsonl: is not a journal of nibble serve/);
  }
});
