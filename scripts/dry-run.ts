/** DryRun: bundles both scripts of the edge as `wrangler deploy` would, without an account or a network, and holds them to their size. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { gzipSync } from 'node:zlib';
import { ensureWasmBuilt } from './build-wasm.ts';

const ROOT = join(import.meta.dirname, '..');
/** A tenth of what the platform takes: a script's size is its cold start. */
const MAX_COMPRESSED_BYTES = 1_000_000;
const SCRIPTS = { edge: 'wrangler.toml', fallback: 'edge/fallback/wrangler.toml' };

ensureWasmBuilt();
for (const [name, config] of Object.entries(SCRIPTS)) {
  const out = join(ROOT, 'dist', name);
  rmSync(out, { recursive: true, force: true });
  const { status } = spawnSync(
    join(ROOT, 'node_modules', '.bin', 'wrangler'),
    ['deploy', '--dry-run', '-c', join(ROOT, config), '--outdir', out],
    {
      cwd: ROOT,
      stdio: 'inherit',
      env: { ...process.env, WRANGLER_SEND_METRICS: 'false', WRANGLER_SEND_ERROR_REPORTS: 'false' },
    },
  );
  const bytes = status === 0 ? compressedBytes(out) : Number.POSITIVE_INFINITY;
  const ok = bytes <= MAX_COMPRESSED_BYTES;
  console.log(
    `${ok ? 'ok    ' : 'FAILED'} ${name}: ${bytes} bytes compressed with its wasm, of ${MAX_COMPRESSED_BYTES}`,
  );
  if (!ok) process.exitCode = 1;
}

/** All modules together, as they are uploaded; source maps and notes stay behind. */
function compressedBytes(directory: string): number {
  const modules = readdirSync(directory).filter((file) => /\.(js|wasm)$/.test(file));
  return gzipSync(Buffer.concat(modules.map((file) => readFileSync(join(directory, file)))), { level: 6 }).length;
}
