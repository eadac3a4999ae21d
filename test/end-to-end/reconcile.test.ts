/** Reconcile: `nibble reconcile` on a running edge and a worker that keeps a journal, as an operator runs it. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DEMO, nibble, RunningEdge, type Spawned } from './running-edge.ts';

const MODEL = 'journaled-demo';
let edge: RunningEdge;
let worker: Spawned;
let folder: string;
let journal: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nibble-reconcile-'));
  journal = join(folder, 'worker.jsonl');
  edge = await RunningEdge.start(['--no-worker']);
  worker = await edge.addWorker(['--model-id', DEMO, '--served-model-name', MODEL, '--journal', journal]);
});
afterAll(async () => {
  await worker?.end('SIGTERM');
  await edge?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function reconcile(...journals: string[]) {
  const args = ['reconcile', '--edge', edge.url, '--admin-key', edge.adminKey, '--json'];
  const { code, stdout, stderr } = await nibble([...args, ...(journals.length > 0 ? ['--journal', ...journals] : [])]);
  return { code, stderr, found: stdout === '' ? null : JSON.parse(stdout) };
}

test('books that agree, a journal that lost a line, and a file that is none', async () => {
  for (const prompt of ['Once upon a time', 'There was a fox', 'The owl']) {
    const response = await edge.post('/v1/completions', { model: MODEL, prompt, max_tokens: 12, ignore_eos: true });
    expect(response.status).toBe(200);
    expect((await response.json()).usage.completion_tokens).toBe(12);
  }
  // Rows gather ten seconds before they are exported, and five more in the queue.
  let agreed = await reconcile(journal);
  for (let tries = 0; agreed.code !== 0 && tries < 40; tries++) {
    await setTimeout(1000);
    agreed = await reconcile(journal);
  }
  expect(agreed).toMatchObject({
    code: 0,
    found: {
      ...{ jobs: 3, live_jobs: 0, ledger_rows: 3, export_rows: 3, queue_jobs: 3, differences: [], unaccepted: [] },
      ...{ ledger_tokens: 36, accepted_tokens: 36, ledger_tokens_of_kept: 36, journal_tokens: 36, divergent_tokens: 0 },
    },
  });

  const lines = (await readFile(journal, 'utf8')).split('\n');
  const torn = join(folder, 'torn.jsonl');
  await writeFile(torn, lines.filter((line) => !line.includes('"from":5')).join('\n'));
  const differing = await reconcile(torn);
  expect(differing).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('3 differences between the books, in 3 jobs'),
  });
  expect(differing.found.differences).toHaveLength(3);
  expect(differing.found.differences[0]).toMatchObject({
    between: 'ledger and journal',
    reason: '1 of 12 booked positions are in no journal',
  });

  const other = join(folder, 'other.json');
  await writeFile(other, '{}');
  expect(await reconcile(journal, other)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is not a journal'),
  });
  expect((await reconcile()).code).toBe(0);
}, 180_000);
