/** Bundle: the edge as `wrangler deploy` would upload it, from production's entry or from the chaos one. Nothing else differs. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '..', '..');
const ENTRIES = { production: join(ROOT, 'edge', 'index.ts'), chaos: join(import.meta.dirname, 'edge-entry.ts') };
const MAIN = /^main = .*$/m;

export interface Bundle {
  /** The configuration it was made from: wrangler.toml but for its entry. */
  config: string;
  /** The one module. */
  script: string;
}

/** Writes configuration and bundle below `folder`. */
export async function bundle(kind: 'production' | 'chaos', folder: string): Promise<Bundle> {
  await mkdir(folder, { recursive: true });
  const config = join(folder, 'wrangler.toml');
  const production = await readFile(join(ROOT, 'wrangler.toml'), 'utf8');
  if (!MAIN.test(production)) throw new Error('wrangler.toml names no main');
  await writeFile(
    config,
    production.replace(MAIN, () => `main = ${JSON.stringify(ENTRIES[kind])}`),
  );
  const out = join(folder, 'dist');
  await promisify(execFile)(
    join(ROOT, 'node_modules', '.bin', 'wrangler'),
    ['deploy', '--dry-run', '-c', config, '--outdir', out],
    { cwd: ROOT, env: { ...process.env, WRANGLER_SEND_METRICS: 'false', WRANGLER_SEND_ERROR_REPORTS: 'false' } },
  );
  const script = join(out, kind === 'chaos' ? 'edge-entry.js' : 'index.js');
  await readFile(script);
  return { config, script };
}
