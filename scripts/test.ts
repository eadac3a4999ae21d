/** Test: builds what the tests need and runs them. Arguments go to vitest. Closes with one plain line of counts. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { probeAdapter } from '../gpu-worker/webgpu/probe.ts';
import { ensureWasmBuilt } from './build-wasm.ts';

const ROOT = join(import.meta.dirname, '..');

ensureWasmBuilt();
const folder = mkdtempSync(join(tmpdir(), 'nibble-test-'));
const outputFile = join(folder, 'results.json');
const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
// Software or not: the suite is about answers.
const systemGpu = (await probeAdapter())?.description ?? null;
console.log(
  systemGpu === null ? 'no GPU adapter on this system: WebGPU runs on SwiftShader only' : `GPU: ${systemGpu}`,
);
const { status } = spawnSync(
  process.execPath,
  [
    vitest,
    'run',
    '--root',
    ROOT,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${outputFile}`,
    ...process.argv.slice(2),
  ],
  {
    cwd: ROOT,
    stdio: 'inherit',
    env: {
      ...process.env,
      WRANGLER_SEND_METRICS: 'false',
      WRANGLER_SEND_ERROR_REPORTS: 'false',
      CLOUDFLARE_CF_FETCH_ENABLED: 'false',
      ...(systemGpu === null ? {} : { NIBBLE_SYSTEM_GPU: systemGpu }),
    },
  },
);
try {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(
    readFileSync(outputFile, 'utf8'),
  );
  console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests + numTodoTests} skipped`);
} catch {
  console.error('The test runner ended without a result.');
}
rmSync(folder, { recursive: true, force: true });
process.exitCode = status ?? 1;
