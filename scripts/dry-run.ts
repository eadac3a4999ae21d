/** DryRun: bundles the edge as `wrangler deploy` would, without an account or a network. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';

const ROOT = join(import.meta.dirname, '..');

const { status } = spawnSync(
  join(ROOT, 'node_modules', '.bin', 'wrangler'),
  ['deploy', '--dry-run', '--outdir', join(ROOT, 'dist')],
  {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, WRANGLER_SEND_METRICS: 'false', WRANGLER_SEND_ERROR_REPORTS: 'false' },
  },
);
process.exitCode = status ?? 1;
