/** Nibble's own edge for the bench: the bundle that is deployed, on workerd itself with its objects on disk, and a worker that answers at once. */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import process from 'node:process';
import { freePort } from '../../gpu-worker/free-port.ts';
import { type Gateway, Program } from './gateway.ts';
import type { WorkerSettings } from './instant-worker.ts';
import { MODEL } from './traffic.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const READY_MS = 30_000;
/** Leases that the worker takes at once: more than any bench has requests. */
const CREDITS = 4096;
const OBJECTS = {
  ACCOUNT: 'AccountObject',
  QUEUE: 'QueueObject',
  CATALOG: 'CatalogObject',
  DIRECTORY: 'DirectoryObject',
};

export interface NibbleGateway extends Gateway {
  /** Of workerd. */
  pid: number;
  /** While held, every answer stops after its first token. */
  hold(isHeld: boolean): void;
}

export interface NibbleOptions {
  /** A directory of its own, emptied. */
  state: string;
  /** Instead of the edge's own: a path from the repository's root. */
  entry?: string;
  /** Of the worker's steps; absent: none. */
  stepMs?: number;
}

export async function startNibble({
  state,
  entry = 'edge/index.ts',
  stepMs = 0,
}: NibbleOptions): Promise<NibbleGateway> {
  rmSync(state, { recursive: true, force: true });
  mkdirSync(join(state, 'objects'), { recursive: true });
  bundled(join(state, 'bundle'), entry);
  const port = await freePort();
  const adminKey = randomBytes(24).toString('hex');
  const config = join(state, 'edge.capnp');
  writeFileSync(config, workerdConfig(state, mainOf(entry), port, adminKey));
  // It is a package of wrangler's, which pins it.
  const workerd = createRequire(createRequire(import.meta.url).resolve('wrangler/package.json')).resolve('workerd');
  const program = createRequire(workerd)(workerd).default as string;
  const edge = new Program('workerd', program, ['serve', config], process.env, state);
  let worker: ChildProcess | null = null;
  const stop = async () => {
    worker?.kill('SIGTERM');
    await edge.stop();
  };
  try {
    const url = `http://127.0.0.1:${port}`;
    await edge.answers(`${url}/health`, READY_MS);
    const key = await keysOf(url, adminKey);
    worker = await startWorker({ edge: url, token: key.worker, credits: CREDITS, stepMs });
    const { version } = createRequire(workerd)('workerd/package.json') as { version: string };
    return {
      name: 'nibble',
      version: `workerd ${version}`,
      note: 'keys, budgets, rate limits, queue and ledger of every request in SQLite on disk',
      target: { url, key: key.client, model: MODEL },
      residentBytes: () => edge.residentBytes(),
      pid: edge.child.pid!,
      hold: (isHeld) => void worker!.send(isHeld ? 'hold' : 'go on'),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** As `wrangler deploy` would upload it. */
function bundled(out: string, entry: string): void {
  const wrangler = join(ROOT, 'node_modules', '.bin', 'wrangler');
  const args = ['deploy', join(ROOT, entry), ...['--dry-run', '-c', join(ROOT, 'wrangler.toml'), '--outdir', out]];
  const env = { ...process.env, WRANGLER_SEND_METRICS: 'false', WRANGLER_SEND_ERROR_REPORTS: 'false' };
  const { status, stdout, stderr } = spawnSync(wrangler, args, { cwd: ROOT, encoding: 'utf8', env });
  if (status !== 0 || !existsSync(join(out, mainOf(entry))))
    throw new Error(`the edge was not bundled: ${stdout}${stderr}`);
}

/** What wrangler.toml sets, numbers as text. */
function deployedVariables(): Record<string, string> {
  const toml = readFileSync(join(ROOT, 'wrangler.toml'), 'utf8');
  const section = /^\[vars\]\n([^[]*)/m.exec(toml)?.[1] ?? '';
  return Object.fromEntries(
    [...section.matchAll(/^(\w+) = "?([^"\n]*?)"?$/gm)].map(([, name, value]) => [name, value]),
  );
}

/** The bundle's module that wrangler makes of an entry. */
function mainOf(entry: string): string {
  return `${basename(entry, '.ts')}.js`;
}

function workerdConfig(state: string, main: string, port: number, adminKey: string): string {
  const text = (value: string) => JSON.stringify(value);
  const variables = {
    KEY_SECRETS: JSON.stringify({ 1: randomBytes(32).toString('hex') }),
    ADMIN_KEY: adminKey,
    ...deployedVariables(),
    QUEUE_DEPTH: '10000',
  };
  const modules = readdirSync(join(state, 'bundle'))
    .filter((file) => /\.(js|wasm)$/.test(file))
    .sort((a, b) => Number(b === main) - Number(a === main))
    .map(
      (file) =>
        `(name = ${text(file)}, ${file.endsWith('.js') ? 'esModule' : 'wasm'} = embed ${text(`bundle/${file}`)})`,
    );
  const bindings = [
    ...Object.entries(variables).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
    ...Object.entries(OBJECTS).map(([name, type]) => `(name = ${text(name)}, durableObjectNamespace = ${text(type)})`),
  ];
  const objects = Object.values(OBJECTS).map(
    (type) => `(className = ${text(type)}, uniqueKey = ${text(type)}, enableSql = true)`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "objects", disk = (path = ${text(join(state, 'objects'))}, writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "edge")],
);
const edge :Workerd.Worker = (
  modules = [${modules.join(', ')}],
  compatibilityDate = "2026-10-01",
  compatibilityFlags = ["enable_request_signal"],
  bindings = [${bindings.join(', ')}],
  durableObjectNamespaces = [${objects.join(', ')}],
  durableObjectStorage = (localDisk = "objects"),
);
`;
}

async function keysOf(url: string, adminKey: string): Promise<{ client: string; worker: string }> {
  const send = async (path: string, body: unknown): Promise<Record<string, string>> => {
    const headers = { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' };
    const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`POST ${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as Record<string, string>;
  };
  const limits = { requests_per_min: 10_000_000, tokens_per_min: 10_000_000_000, concurrency: 100_000 };
  const account = await send('/admin/accounts', { name: 'bench', credit_usd: 1_000_000, limits });
  const keys = `/admin/accounts/${account.id}/keys`;
  const client = await send(keys, { name: 'client', scopes: ['client'] });
  const worker = await send(keys, { name: 'worker', scopes: ['worker'] });
  return { client: client.key!, worker: worker.key! };
}

function startWorker(settings: WorkerSettings): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, 'instant-worker.ts'), [JSON.stringify(settings)], {
    stdio: ['ignore', 2, 2, 'ipc'],
  });
  return new Promise((resolve, reject) => {
    child.once('message', () => resolve(child));
    child.once('exit', (code) => reject(new Error(`the worker ended with ${code}`)));
  });
}
