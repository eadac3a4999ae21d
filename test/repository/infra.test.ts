/** Infra: what is deployed is what the code has: bindings, migrations, metrics, and an image that says whether it is well. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { unstable_readConfig as readConfig } from 'wrangler';
import { parse, parseAllDocuments } from 'yaml';
import { metricsAdminRoutes } from '../../edge/api/admin-metrics.ts';
import { Metrics } from '../../gpu-worker/standalone/metrics.ts';

const ROOT = join(import.meta.dirname, '..', '..');
interface Bound {
  binding: string;
}
interface Migration {
  tag: string;
  new_sqlite_classes?: string[];
}
const text = (path: string) => readFileSync(join(ROOT, 'infra', path), 'utf8');

describe.each([
  ['edge.tf', 'wrangler.toml'],
  ['fallback.tf', 'edge/fallback/wrangler.toml'],
])('terraform/%s has what %s has', (file, config) => {
  const wrangler = readConfig({ config: join(ROOT, config) });
  const terraform = text(`terraform/${file}`);

  test('the script, its dates and flags', () => {
    expect(terraform).toContain(`name       = "${wrangler.name}"`);
    expect(terraform).toMatch(new RegExp(`compatibility_date +\\= "${wrangler.compatibility_date}"`));
    for (const flag of wrangler.compatibility_flags) expect(terraform).toContain(`"${flag}"`);
  });

  test('every migration, in order', () => {
    const written = [...terraform.matchAll(/tag = "(\w+)", new_sqlite_classes = \[(.*?)\]/g)].map(
      ([, tag, classes]) => [tag, classes!.replaceAll('"', '').split(', ')],
    );
    expect(written).toEqual(
      wrangler.migrations.map(({ tag, new_sqlite_classes }: Migration) => [tag, new_sqlite_classes]),
    );
  });

  test('every binding and variable', () => {
    for (const { name, class_name } of wrangler.durable_objects.bindings)
      expect(terraform).toMatch(new RegExp(`(name = "${name}", class_name|\\b${name}) += "${class_name}"`));
    const names = [
      ...wrangler.r2_buckets.map(({ binding }: Bound) => binding),
      ...wrangler.d1_databases.map(({ binding }: Bound) => binding),
      ...(wrangler.queues.producers ?? []).map(({ binding }: Bound) => binding),
    ];
    for (const name of names) expect(terraform).toContain(`name = "${name}"`);
    for (const [name, value] of Object.entries(wrangler.vars))
      expect(terraform).toMatch(new RegExp(`\\b${name} += "${value}"`));
  });
});

test('terraform/storage.tf consumes the queue as wrangler.toml does', () => {
  const { queues } = readConfig({ config: join(ROOT, 'wrangler.toml') });
  const [consumer] = queues.consumers!;
  const storage = text('terraform/storage.tf');
  expect(storage).toContain(`queue_name = "${consumer!.queue}"`);
  const settings = {
    batch_size: consumer!.max_batch_size,
    max_wait_time_ms: 1000 * consumer!.max_batch_timeout!,
    max_retries: consumer!.max_retries,
    retry_delay: consumer!.retry_delay,
  };
  for (const [name, value] of Object.entries(settings))
    expect(storage).toMatch(new RegExp(`\\b${name} += ${value}\\n`));
});

/** Names that the server without an edge and the edge really serve. */
async function served(): Promise<Set<string>> {
  const metrics = new Metrics({ maxInputTokens: 10, maxTotalTokens: 10 }, () => 0);
  const families = metrics.families({ numWaiting: 0, numRunning: 0, cacheTokens: 0 });
  const suffixes = { counter: [''], gauge: [''], histogram: ['_bucket', '_sum', '_count'] };
  const load = { model: 'm', waiting: 0, running: 0, workers: 0, freeSlots: 0 };
  const edge = await metricsAdminRoutes(() => ({ loads: async () => [load] }) as never).request('/metrics');
  const names = [...(await edge.text()).matchAll(/^# TYPE (\w+) gauge$/gm)].map(([, name]) => name!);
  return new Set([...names, ...families.flatMap(({ name, type }) => suffixes[type].map((suffix) => name + suffix))]);
}

test('the dashboard draws only what is served', async () => {
  const names = await served();
  const { panels } = JSON.parse(text('grafana/dashboards/nibble.json'));
  const asked = panels.flatMap(({ targets }: { targets: { expr: string }[] }) =>
    targets.flatMap(({ expr }) => expr.match(/\b(tgi|nibble)_\w+/g)!),
  );
  expect(asked.length).toBeGreaterThan(15);
  for (const name of asked) expect(names).toContain(name);
});

describe('kubernetes', () => {
  const manifests = readdirSync(join(ROOT, 'infra', 'kubernetes')).flatMap((file) =>
    parseAllDocuments(text(`kubernetes/${file}`)).map((document) => document.toJS()),
  );
  const find = (kind: string) => manifests.find((manifest) => manifest.kind === kind);

  test('the scaler asks for a metric that the edge serves, of the model that the workers serve', async () => {
    const [trigger] = find('ScaledObject').spec.triggers;
    const [, name, model] = /^(\w+)\{model="(.*)"\}$/.exec(trigger.metadata.valueLocation)!;
    expect(await served()).toContain(name);
    const { literals } = find('Kustomization').configMapGenerator[0];
    expect(literals).toContain(`SERVED_MODEL_NAME=${model}`);
    expect(literals).toContain(`EDGE=${trigger.metadata.url.replace('/metrics', '')}`);
    expect(find('ScaledObject').spec.scaleTargetRef.name).toBe(find('Deployment').metadata.name);
    expect(trigger.authenticationRef.name).toBe(find('TriggerAuthentication').metadata.name);
  });

  test('a pod outlives the drain of its worker, and every selector selects it', () => {
    const { template } = find('Deployment').spec;
    expect(template.spec.terminationGracePeriodSeconds).toBeGreaterThan(90);
    for (const { spec } of [find('Deployment'), find('PodDisruptionBudget')])
      expect(spec.selector.matchLabels).toEqual(template.metadata.labels);
    expect(find('NetworkPolicy').spec.podSelector.matchLabels).toEqual(template.metadata.labels);
    expect(find('Kustomization').resources.map((file: string) => text(`kubernetes/${file}`))).toHaveLength(
      readdirSync(join(ROOT, 'infra', 'kubernetes')).length - 1,
    );
  });
});

test('the images build from files that are in their context', () => {
  const context = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');
  for (const path of [
    'core',
    'edge/api',
    'gpu-worker',
    'wasm',
    'scripts/build-wasm.ts',
    'infra/docker/healthcheck.mjs',
  ])
    expect(context).toContain(`!${path}`);
  const { services } = parse(text('compose.yaml'), { merge: true });
  for (const name of ['gpu', 'cpu', 'worker'])
    expect(text(services[name].build.dockerfile.replace('infra/', ''))).toMatch(/^FROM /m);
});

describe('healthcheck.mjs', () => {
  const run = async (cmdline: string[], environment: Record<string, string> = {}) => {
    const directory = await mkdtemp(join(tmpdir(), 'nibble-health-'));
    const path = join(directory, 'cmdline');
    writeFileSync(path, cmdline.join('\0'));
    try {
      const script = join(ROOT, 'infra', 'docker', 'healthcheck.mjs');
      await promisify(execFile)(process.execPath, [script, path], {
        env: { ...process.env, PORT: '', ...environment },
      });
      return 'well';
    } catch {
      return 'ill';
    } finally {
      await rm(directory, { recursive: true });
    }
  };

  test('follows /health of the port that was given, and leaves a linked worker alone', async () => {
    let status = 200;
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/health' ? status : 404;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const port = String((server.address() as AddressInfo).port);
    try {
      expect(await run(['node', 'cli.ts', 'serve', '--port', port])).toBe('well');
      expect(await run(['node', 'cli.ts', 'serve', `--port=${port}`])).toBe('well');
      expect(await run(['node', 'cli.ts', 'serve'], { PORT: port })).toBe('well');
      status = 503;
      expect(await run(['node', 'cli.ts', 'serve'], { PORT: port })).toBe('ill');
      expect(await run(['node', 'cli.ts', 'serve', '--edge', 'https://e'], { PORT: port })).toBe('well');
      expect(await run(['node', 'cli.ts', 'serve'], { EDGE: 'https://e' })).toBe('well');
    } finally {
      server.close();
    }
    expect(await run(['node', 'cli.ts', 'serve'], { PORT: port })).toBe('ill');
  });
});
