/** LiteLLM: its proxy from PyPI in a virtual environment of its own, one process, behind a master key. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { freePort } from '../../gpu-worker/free-port.ts';
import { type Gateway, Program } from './gateway.ts';
import { MODEL } from './traffic.ts';

const READY_MS = 120_000;
const KEY = 'sk-bench';

/** `cache`: where the environment is made, once. Rejects with the reason when Python or PyPI do not give it. */
export async function startLitellm(upstream: string, cache: string): Promise<Gateway> {
  const environment = join(cache, 'litellm');
  const { version } = install(environment);
  const port = await freePort();
  const config = join(cache, 'litellm.json');
  // YAML is a superset of JSON.
  writeFileSync(
    config,
    JSON.stringify({
      model_list: [
        {
          model_name: MODEL,
          litellm_params: { model: `openai/${MODEL}`, api_base: `${upstream}/v1`, api_key: 'none' },
        },
      ],
      general_settings: { master_key: KEY },
    }),
  );
  const args = ['--config', config, '--host', '127.0.0.1', '--port', String(port), '--num_workers', '1'];
  const env = { ...process.env, LITELLM_LOCAL_MODEL_COST_MAP: 'True', LITELLM_LOG: 'ERROR' };
  const command = join(environment, 'bin', 'litellm');
  const program = new Program('litellm', command, [...args, '--telemetry', 'False'], env, cache);
  const url = `http://127.0.0.1:${port}`;
  try {
    await program.answers(`${url}/health/liveliness`, READY_MS);
  } catch (error) {
    await program.stop();
    throw error;
  }
  return {
    name: 'litellm',
    version,
    note: 'master key only, no database: its keys and spend need a Prisma engine that no package registry carries',
    target: { url, key: KEY, model: MODEL },
    residentBytes: () => program.residentBytes(),
    stop: () => program.stop(),
  };
}

function install(environment: string): { version: string } {
  const requirements = join(import.meta.dirname, 'requirements.txt');
  const python = join(environment, 'bin', 'python');
  if (!existsSync(join(environment, 'installed'))) {
    process.stderr.write('Installing LiteLLM (pip, bench/edge/requirements.txt) …\n');
    mkdirSync(environment, { recursive: true });
    must('python3', ['-m', 'venv', environment]);
    must(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements]);
    writeFileSync(join(environment, 'installed'), '');
  }
  const ask = "import importlib.metadata as m; print(m.version('litellm'))";
  return { version: must(python, ['-c', ask]).trim() };
}

function must(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args[0]} failed: ${error?.message ?? stderr.trim().slice(-300)}`);
  return stdout;
}
