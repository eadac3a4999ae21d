/** Lint of infra/: each file by its own tool where that is here; what was not run is said by name. --install gets the tools first. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parse } from 'yaml';
import { writeSchemas } from './schemas.ts';
import { find, installTools, KEDA, kedaModule, kubernetesSchemas } from './tools.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const KUBERNETES = join(ROOT, 'infra', 'kubernetes');
const KUBERNETES_VERSION = '1.34.0';

type Verdict = { kind: 'ok' } | { kind: 'failed'; why: string } | { kind: 'not run'; why: string };

const CHECKS: Record<string, () => Verdict> = {
  'hadolint: Dockerfile, Dockerfile.cpu': () =>
    program('hadolint', ['infra/docker/Dockerfile', 'infra/docker/Dockerfile.cpu']),
  'shellcheck: worker.sh': () => program('shellcheck', ['infra/rented-gpus/worker.sh']),
  "compose.yaml, by Docker Compose's own loader": () => program('compose-lint', ['infra/compose.yaml']),
  'terraform fmt': () => program('terraform', ['fmt', '-check', '-diff', 'infra/terraform']),
  'terraform validate': terraformValidate,
  'kubectl kustomize': () => program('kubectl', ['kustomize', 'infra/kubernetes']),
  [`kubeconform: Kubernetes ${KUBERNETES_VERSION} and ${KEDA}`]: kubeconform,
  'promtool: prometheus.yml': () => program('promtool', ['check', 'config', 'infra/prometheus/prometheus.yml']),
};

if (process.argv.includes('--install')) installTools();
for (const [name, check] of Object.entries(CHECKS)) {
  const verdict = check();
  const why = verdict.kind === 'ok' ? '' : `: ${verdict.why}`;
  console.log(`${{ ok: 'ok     ', failed: 'FAILED ', 'not run': 'NOT RUN' }[verdict.kind]} ${name}${why}`);
  if (verdict.kind === 'failed') process.exitCode = 1;
}

function program(name: string, args: string[], input?: string): Verdict {
  const path = find(name);
  if (path === null) return { kind: 'not run', why: `${name} is not installed here` };
  const options = { cwd: ROOT, encoding: 'utf8', ...(input !== undefined && { input }) } as const;
  const { status, stdout, stderr } = spawnSync(path, args, options);
  return status === 0 ? { kind: 'ok' } : { kind: 'failed', why: `\n${stdout}${stderr}` };
}

/** Only where somebody has run `terraform init`: the provider comes from Terraform's registry. */
function terraformValidate(): Verdict {
  const providers = join(ROOT, 'infra', 'terraform', '.terraform', 'providers');
  if (find('terraform') !== null && !isDirectory(providers))
    return { kind: 'not run', why: 'the provider is not here; terraform -chdir=infra/terraform init gets it' };
  return program('terraform', ['-chdir=infra/terraform', 'validate']);
}

function kubeconform(): Verdict {
  const [kubernetes, keda] = [kubernetesSchemas(KUBERNETES_VERSION), kedaModule()];
  if (find('kubeconform') === null) return { kind: 'not run', why: 'kubeconform is not installed here' };
  if (kubernetes === null || keda === null) return { kind: 'not run', why: 'its schemas are not here' };
  const text = manifests();
  const kinds = text.map(({ apiVersion, kind }) => {
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    return [kind, group!.split('.')[0], version]
      .filter((part) => part !== '')
      .join('-')
      .toLowerCase();
  });
  const schemas = writeSchemas(
    kubernetes,
    keda,
    kinds.filter((kind) => !kind.includes('-keda-')),
  );
  const location = join(schemas, '{{.ResourceKind}}{{.KindSuffix}}.json');
  const input = text.map((manifest) => JSON.stringify(manifest)).join('\n---\n');
  const verdict = program('kubeconform', ['-strict', '-schema-location', location, '-'], input);
  rmSync(schemas, { recursive: true });
  return verdict;
}

/** Every manifest but the kustomization, which is kubectl's. */
function manifests(): { apiVersion: string; kind: string }[] {
  return readdirSync(KUBERNETES)
    .filter((file) => file !== 'kustomization.yaml')
    .flatMap((file) => readFileSync(join(KUBERNETES, file), 'utf8').split(/^---$/m))
    .map((text) => parse(text));
}

function isDirectory(path: string): boolean {
  try {
    return readdirSync(path).length > 0;
  } catch {
    return false;
  }
}
