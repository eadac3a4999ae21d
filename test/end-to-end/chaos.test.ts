/** Chaos: a small run of what `npm run chaos` does, and that nothing of it is in the production bundle. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { bundle } from '../../scripts/chaos/bundle.ts';
import { Edge } from '../../scripts/chaos/edge.ts';
import { run } from '../../scripts/chaos/run.ts';
import { holds } from '../../scripts/chaos/verdict.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nibble-chaos-test-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test('120 requests under faults: texts whole, books equal, nothing left', async () => {
  const result = await run({
    ...{ requests: 120, seed: 7, scripts: 60, concurrency: 16, workers: 3, slots: 4, accounts: 2, shards: 2 },
    ...{ faultEvery: 4, minutes: 10, folder, log: () => {} },
  });
  const { wrong, ...counts } = result;
  expect(wrong).toEqual([]);
  expect(holds(result), JSON.stringify(counts)).toBe(true);
  expect(result.finished + result.left).toBeGreaterThanOrEqual(120);
  expect(result.ledger_tokens).toBeGreaterThan(500);
  expect(result.journal_tokens).toBeGreaterThanOrEqual(result.ledger_tokens);
  // That something was broken at all.
  expect(Object.values(result.faults).reduce((sum, count) => sum + count)).toBeGreaterThan(5);
}, 300_000);

test('the hook is in the chaos bundle and not in the production bundle, which are otherwise made alike', async () => {
  const [chaos, production] = await Promise.all([
    bundle('chaos', join(folder, 'chaos')),
    bundle('production', join(folder, 'production')),
  ]);
  const hook = /chaos(Abort|Stall|Settle)|\/chaos\//;
  expect(await readFile(chaos.script, 'utf8')).toMatch(hook);
  expect(await readFile(production.script, 'utf8')).not.toMatch(/chaos/i);
  const configs = await Promise.all([chaos, production].map(({ config }) => readFile(config, 'utf8')));
  const differing = configs[0]!.split('\n').filter((line, at) => line !== configs[1]!.split('\n')[at]);
  expect(differing).toEqual([expect.stringMatching(/^main = ".*edge-entry\.ts"$/)]);
  expect(configs[1]).toMatch(/^main = ".*edge\/index\.ts"$/m);
});

test('the production build knows no /chaos/ route', async () => {
  const edge = await Edge.start(folder, {}, 'production');
  try {
    const { id } = await edge.post<{ id: string }>('/accounts', { name: 'a', credit_usd: '1' });
    await expect(edge.inject('stall', { account: id }, 100)).rejects.toThrow('answered 404');
    await expect(edge.inject('abort', { account: id })).rejects.toThrow('answered 404');
  } finally {
    await edge.stop();
  }
});
