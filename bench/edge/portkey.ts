/** Portkey: its gateway from npm, installed from this folder's lock file on first use. It keeps no keys and no ledger. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { freePort } from '../../gpu-worker/free-port.ts';
import { type Gateway, Program } from './gateway.ts';
import { MODEL } from './traffic.ts';

const READY_MS = 60_000;
const PACKAGE = join(import.meta.dirname, 'node_modules', '@portkey-ai', 'gateway');

export async function startPortkey(upstream: string): Promise<Gateway> {
  if (!existsSync(PACKAGE)) {
    process.stderr.write("Installing Portkey's gateway (npm ci in bench/edge) …\n");
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    const { status, stderr, error } = spawnSync('npm', args, { cwd: import.meta.dirname, encoding: 'utf8' });
    if (status !== 0) throw new Error(`npm ci in bench/edge failed: ${error?.message ?? stderr.trim().slice(-300)}`);
  }
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { version: string };
  const port = await freePort();
  const args = [join(PACKAGE, 'build', 'start-server.js'), `--port=${port}`, '--headless'];
  const program = new Program('portkey', process.execPath, args, process.env, import.meta.dirname);
  const url = `http://127.0.0.1:${port}`;
  try {
    await program.answers(`${url}/`, READY_MS);
  } catch (error) {
    await program.stop();
    throw error;
  }
  return {
    name: 'portkey',
    version,
    note: 'passes the key on; checks, counts and keeps nothing',
    target: {
      url,
      key: 'none',
      model: MODEL,
      headers: { 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `${upstream}/v1` },
    },
    residentBytes: () => program.residentBytes(),
    stop: () => program.stop(),
  };
}
