/** Shards: a model of three queues and one worker with fewer slots than queues; every job is answered, whichever queue it went to. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type DevKeys, devKeys } from '../../gpu-worker/dev-account.ts';
import { type LocalEdge, startLocalEdge } from '../../gpu-worker/local-edge.ts';
import { DEMO, Spawned } from './running-edge.ts';

const MODEL = 'sharded-demo';
let folder: string;
let edge: LocalEdge;
let keys: DevKeys;
let worker: Spawned;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nibble-shards-'));
  edge = await startLocalEdge({ port: 0, state: join(folder, 'state'), variables: { QUEUE_SHARDS: '3' } });
  keys = await devKeys(edge.url, edge.adminKey, join(folder, 'dev.json'));
  const flags = [
    '--model-id',
    DEMO,
    '--served-model-name',
    MODEL,
    '--backend',
    'wasm',
    '--max-concurrent-requests',
    '2',
  ];
  const args = ['gpu-worker/cli.ts', 'serve', '--edge', edge.url, '--token', keys.workerToken, ...flags];
  worker = new Spawned(process.execPath, args);
  await worker.printed(/linked to/, 60_000);
});
afterAll(async () => {
  await worker?.end('SIGTERM');
  await edge?.stop();
  await rm(folder, { recursive: true, force: true });
});

test('two slots serve three queues', async () => {
  const ask = async (seed: number) => {
    const response = await fetch(`${edge.url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${keys.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, prompt: 'Once', max_tokens: 8, temperature: 1, seed, ignore_eos: true }),
    });
    const answer = await response.json();
    return [response.status, answer.choices?.[0].text ?? answer];
  };
  const seeds = [1, 2, 3, 4];
  const expected = [];
  for (const seed of seeds) expected.push(await ask(seed));
  const rounds = 8;
  const answers = await Promise.all(Array.from({ length: rounds }, () => seeds.map(ask)).flat());
  for (const [at, answer] of answers.entries()) {
    expect(answer[0], JSON.stringify(answer)).toBe(200);
    expect(answer).toEqual(expected[at % seeds.length]);
  }
  const jobs = await Promise.all([0, 1, 2].map(jobsOf));
  expect(jobs.reduce((sum, count) => sum + count, 0)).toBe(seeds.length * (rounds + 1));
  for (const count of jobs) expect(count).toBeGreaterThan(0);
});

async function jobsOf(shard: number): Promise<number> {
  const response = await fetch(`${edge.url}/admin/jobs?model=${MODEL}&shard=${shard}`, {
    headers: { authorization: `Bearer ${edge.adminKey}` },
  });
  return ((await response.json()) as { data: unknown[] }).data.length;
}
