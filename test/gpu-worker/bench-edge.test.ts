/** `nibble bench edge` in miniature, on real workerd with the bundle that is deployed. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { BenchReport } from '../../gpu-worker/bench/report.ts';

const NIBBLE = join(import.meta.dirname, '..', '..', 'bin', 'nibble');

test('measures every request against a worker that answers at once, and streams that are open together', async () => {
  const args = ['bench', 'edge', '--rounds', '1', '--seconds', '1', '--clients', '4', '--streams', '30', '--json'];
  const { stdout } = await promisify(execFile)(NIBBLE, args, { timeout: 170_000 });
  const { task, results, ratios, peers } = JSON.parse(stdout) as BenchReport;
  expect(task).toBe('edge');
  const values = new Map(results.map(({ name, value }) => [name, value]));
  expect(values.get('nibble: requests/s')).toBeGreaterThan(0);
  expect(values.get('nibble: streams/s')).toBeGreaterThan(0);
  expect(values.get('direct: requests/s')).toBeGreaterThan(0);
  expect(values.get('nibble: added to the first token, p50')).toBeTypeOf('number');
  expect(values.get('open streams: count')).toBe(30);
  expect([ratios, peers]).toEqual([{}, []]);
}, 180_000);

test('refuses what says nothing to it', async () => {
  const refused = promisify(execFile)(NIBBLE, ['bench', 'edge', '--model-id', 'models/demo']);
  await expect(refused).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining('--model-id') });
});
