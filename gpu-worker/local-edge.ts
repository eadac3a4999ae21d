/** LocalEdge: the edge and its fallback's script in workerd on this machine, through wrangler's own API. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { NibbleError } from '../core/errors.ts';
import { ensureWasmBuilt } from '../scripts/build-wasm.ts';
import { putLocalModel } from './local-bucket.ts';
import type { S3Connection } from './store/s3-bucket.ts';

/** For this machine alone. */
const HOST = '127.0.0.1';
const ROOT = join(import.meta.dirname, '..');

/** The local S3's one bucket. */
export const LOCAL_BUCKET = 'nibble-weights';

export interface LocalEdge {
  url: string;
  adminKey: string;
  /** The local S3; null when it was not asked for. */
  s3: S3Connection | null;
  stop(): Promise<void>;
}

export interface LocalEdgeOptions {
  port: number;
  /** Directory of secrets and of the objects' storage; made when missing. */
  state: string;
  /** Overrides of wrangler.toml's variables. */
  variables?: Record<string, string>;
  /** Models for the fallback: name → directory. */
  models?: Record<string, string>;
  /** Where V8's inspector of the fallback's script listens; absent: nowhere. */
  fallbackInspectorPort?: number;
  /** Whether to serve S3, from R2's own emulation, under the edge's port. */
  store?: 'none' | 's3';
}

interface Secrets {
  keySecrets: string;
  adminKey: string;
  s3AccessKeyId: string;
  s3SecretAccessKey: string;
}

/** Starts the edge and resolves when it answers. Its storage survives a stop. */
export async function startLocalEdge({
  port,
  state,
  variables = {},
  models = {},
  fallbackInspectorPort,
  store = 'none',
}: LocalEdgeOptions): Promise<LocalEdge> {
  // Wrangler must neither report nor ask for anything on a machine that may be offline.
  Object.assign(process.env, {
    WRANGLER_SEND_METRICS: 'false',
    WRANGLER_SEND_ERROR_REPORTS: 'false',
    CLOUDFLARE_CF_FETCH_ENABLED: 'false',
    CI: '1',
  });
  await expectFree(port);
  for (const [name, directory] of Object.entries(models)) await putLocalModel(state, name, directory);
  ensureWasmBuilt();
  // An edge that was killed left addresses there that lead nowhere.
  await rm(join(state, 'registry'), { recursive: true, force: true });
  const { keySecrets, adminKey, s3AccessKeyId, s3SecretAccessKey } = await secretsOf(state);
  const { unstable_startWorker: startWorker } = await import('wrangler');
  const bindings = Object.fromEntries(
    Object.entries({ ...variables, KEY_SECRETS: keySecrets, ADMIN_KEY: adminKey }).map(([name, value]) => [
      name,
      { type: 'plain_text' as const, value },
    ]),
  );
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const before = new Set(signals.flatMap((signal) => process.listeners(signal)));
  const dev = {
    watch: false,
    inspector: false,
    logLevel: 'warn',
    // The scripts find each other here, and not those of another edge on this machine.
    registry: join(state, 'registry'),
  } as const;
  const failed = (error: Error) => {
    throw new NibbleError({ code: 'internal', reason: `the edge did not start: ${error.message}` });
  };
  const inspector = fallbackInspectorPort === undefined ? false : { hostname: HOST, port: fallbackInspectorPort };
  const fallback = await startWorker({
    config: join(ROOT, 'edge', 'fallback', 'wrangler.toml'),
    // Two processes must not share a SQLite file.
    dev: { ...dev, inspector, persist: join(state, 'fallback'), server: { hostname: HOST, port: 0 } },
  }).catch(failed);
  await fallback.ready;
  const worker = await startWorker({
    config: join(ROOT, 'wrangler.toml'),
    bindings: {
      ...bindings,
      ...(store === 's3' ? { WEIGHTS: bucketBinding(s3AccessKeyId, s3SecretAccessKey) } : {}),
    },
    dev: { ...dev, persist: join(state, 'edge'), server: { hostname: HOST, port } },
  }).catch(failed);
  await worker.ready;
  // It installs handlers that end this process at once; whoever starts the edge stops it in order instead.
  for (const signal of signals)
    for (const listener of process.listeners(signal)) if (!before.has(listener)) process.off(signal, listener);
  const url = (await worker.url).origin;
  const s3 =
    store === 'none'
      ? null
      : {
          endpoint: `${url}/cdn-cgi/local/r2/s3`,
          accessKeyId: s3AccessKeyId,
          secretAccessKey: s3SecretAccessKey,
        };
  const stop = async () => {
    await worker.dispose();
    await fallback.dispose();
  };
  return { url, adminKey, s3, stop };
}

function bucketBinding(accessKeyId: string, secretAccessKey: string) {
  return {
    type: 'r2_bucket' as const,
    bucket_name: LOCAL_BUCKET,
    local_dev: { experimental_s3_credentials: { accessKeyId, secretAccessKey } },
  };
}

/** Wrangler waits without a word when the port is taken. */
async function expectFree(port: number): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, HOST, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === 'EADDRINUSE' ? 'is taken by another program' : `cannot be used: ${error.code}`;
    throw new NibbleError({ code: 'usage', reason: `port ${port} ${reason}; choose another with PORT=… or --port` });
  });
  await new Promise((resolve) => server.close(resolve));
}

/** Made once for a state directory: keys that were given out stay valid over restarts. */
async function secretsOf(state: string): Promise<Secrets> {
  await mkdir(state, { recursive: true });
  const path = join(state, 'secrets.json');
  const text = await readFile(path, 'utf8').catch(() => null);
  const kept = text === null ? {} : (JSON.parse(text) as Partial<Secrets>);
  const secrets: Secrets = {
    keySecrets: JSON.stringify({ 1: randomBytes(32).toString('hex') }),
    adminKey: `admin-${randomBytes(24).toString('base64url')}`,
    s3AccessKeyId: randomBytes(10).toString('hex'),
    s3SecretAccessKey: randomBytes(20).toString('hex'),
    // State of an earlier version lacks the younger ones.
    ...kept,
  };
  await writeFile(path, JSON.stringify(secrets), { mode: 0o600 });
  return secrets;
}
