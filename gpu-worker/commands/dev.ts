/** Dev: the edge in workerd and one worker, or the edge's fallback alone, on this machine, with one command. */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { NibbleError } from '../../core/errors.ts';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { allowFallback, devKeys } from '../dev-account.ts';
import { LOCAL_BUCKET, type LocalEdge, startLocalEdge } from '../local-edge.ts';
import { MODEL_FLAGS } from '../model-flags.ts';
import { progressBar } from '../progress.ts';
import { openModel } from '../store/open-model.ts';
import { below, isS3 } from '../store/s3-address.ts';
import type { S3Connection } from '../store/s3-bucket.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const DEMO_MODEL = join(ROOT, 'models', 'demo', 'gptq-int4');
const DEMO_NAME = 'nibble-demo';
const DEFAULT_PORT = 8787;
/** A worker finishes in seconds or not at all when a developer presses Ctrl-C. */
const DRAIN_MS = 3000;

export const dev: Command = {
  name: 'dev',
  summary: 'the edge and one worker on this machine, with the demo model',
  positionals: [],
  flags: {
    ...MODEL_FLAGS,
    'served-model-name': {
      kind: 'text',
      value: 'NAME',
      help: `the model's name (${DEMO_NAME} for the demo model)`,
      env: 'SERVED_MODEL_NAME',
    },
    port: { kind: 'integer', minimum: 0, help: `port of the edge (${DEFAULT_PORT})`, env: 'PORT' },
    'no-worker': { kind: 'switch', help: "no worker: the edge's own fallback answers, with a tiny model" },
    store: {
      kind: 'text',
      choices: ['local', 's3'],
      help: 'where the worker loads from: the disk (local), or the S3 of this edge, where the model is pushed first',
      env: 'STORE',
    },
    state: { kind: 'text', value: 'DIR', help: 'where accounts, queues and keys are kept (.nibble)' },
  },
  pending: [],
  examples: [
    'npm start',
    'PORT=9000 npm start',
    'npm start -- --store s3',
    'nibble dev --model-id path/to/model',
    'nibble dev --no-worker',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const state = resolve(options.text('state') ?? join(ROOT, '.nibble'));
  const devJson = join(state, 'dev.json');
  const modelId = options.text('model-id') ?? DEMO_MODEL;
  const model =
    options.text('served-model-name') ?? (options.has('model-id') ? resolve(modelId).split('/').pop()! : DEMO_NAME);
  const alone = options.on('no-worker');
  if (alone) refuseFarModel(modelId);
  const store = options.text('store') === 's3' ? 's3' : 'none';
  if (store === 's3' && alone) throw usage('--store s3 is what a worker loads from; --no-worker has none');
  if (store === 's3' && isS3(modelId))
    throw usage(`--store s3 pushes a model to the S3 of this edge; --model-id is in another already: ${modelId}`);
  const asked = stopSignal();
  ensureWasmBuilt();

  let edge: LocalEdge | null = null;
  let worker: ChildProcess | null = null;
  try {
    const port = options.number('port') ?? DEFAULT_PORT;
    const isDemo = modelId === DEMO_MODEL;
    const models: Record<string, string> = isDemo || alone ? { [model]: modelId } : {};
    const starting = startLocalEdge({ port, state, variables: { DEFAULT_MODEL: model }, models, store });
    const started = await Promise.race([starting, asked]);
    // An edge that is half up goes with this process.
    if (started === 'asked') process.exit(1);
    edge = started;
    const keys = await devKeys(edge.url, edge.adminKey, devJson);
    for (const name of Object.keys(models)) await allowFallback(edge.url, edge.adminKey, name);
    const address = edge.s3 === null ? modelId : await pushed(modelId, model, edge.s3, options);
    worker = alone ? null : startWorker(edge, keys.workerToken, address, model, options, state);
    const exited = worker === null ? asked : exitOf(worker);
    const first = worker === null ? 'linked' : await Promise.race([linked(worker), exited, asked]);
    if (first === 'linked') {
      const ready = {
        url: edge.url,
        apiKey: keys.apiKey,
        adminKey: edge.adminKey,
        workerToken: keys.workerToken,
        models: [model],
      };
      await writeFile(devJson, `${JSON.stringify(ready, null, 2)}\n`, { mode: 0o600 });
      console.log(greeting(edge.url, keys.apiKey, model, isDemo));
      await Promise.race([exited, asked]);
    }
    if (worker !== null && worker.exitCode !== null && worker.exitCode !== 0)
      throw new NibbleError({
        code: 'internal',
        reason: `the worker ended with exit code ${worker.exitCode}; its reason is above`,
      });
  } finally {
    if (worker !== null) await stopWorker(worker);
    await edge?.stop();
  }
}

/** The fallback's model is copied from a directory. */
function refuseFarModel(modelId: string): void {
  const only = '--no-worker serves a model from a directory of this machine';
  if (isS3(modelId)) throw usage(`${only}; nibble weights pull ${modelId} DIR makes one`);
  if (!existsSync(modelId))
    throw usage(`${only}; there is none at ${modelId}, and a model on the Hub has to be downloaded first`);
}

/** The model's address in the local S3. What is there already is not sent again. */
async function pushed(model: string, name: string, s3: S3Connection, options: Options): Promise<string> {
  const files = await openModel(model, options);
  const address = below({ bucket: LOCAL_BUCKET, prefix: '' }, encodeURIComponent(name));
  try {
    const onProgress = progressBar('Pushing to the local S3');
    const { publish } = await import('../store/publish.ts');
    const published = await publish(files, address, { s3, model: name, quantization: null, onProgress });
    console.log(`${published.address}: ${published.bytes} bytes, ${published.sentBytes} of them sent now`);
    return published.address;
  } finally {
    await files.close();
  }
}

/** How the AWS SDK of the worker finds the local S3, and nothing of the person who runs this. */
function s3Variables({ endpoint, accessKeyId, secretAccessKey }: S3Connection): NodeJS.ProcessEnv {
  return {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: 'auto',
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_SESSION_TOKEN: undefined,
    AWS_PROFILE: undefined,
  };
}

function startWorker(
  edge: LocalEdge,
  token: string,
  modelId: string,
  servedName: string,
  options: Options,
  state: string,
): ChildProcess {
  const flags = ['--edge', edge.url, '--token', token, '--model-id', modelId, '--served-model-name', servedName];
  // What was pushed is in S3 now, under chunks of its own, and has no revision any more.
  const ownCache = edge.s3 !== null && !options.has('huggingface-hub-cache');
  if (ownCache) flags.push('--huggingface-hub-cache', join(state, 'weights'));
  for (const [name, { kind }] of Object.entries(MODEL_FLAGS)) {
    if (name === 'model-id' || (name === 'revision' && edge.s3 !== null) || !options.has(name)) continue;
    if (kind === 'switch') flags.push(`--${name}`);
    else if (kind === 'toggle') flags.push(options.toggle(name) ? `--${name}` : `--no-${name}`);
    else flags.push(`--${name}`, String(options.text(name)));
  }
  // A group of its own: Ctrl-C reaches this process alone, which then stops the worker in order.
  return fork(join(ROOT, 'gpu-worker', 'cli.ts'), ['serve', ...flags], {
    detached: true,
    env: { ...process.env, ...(edge.s3 === null ? {} : s3Variables(edge.s3)) },
  });
}

async function stopWorker(worker: ChildProcess): Promise<void> {
  if (worker.exitCode !== null || worker.signalCode !== null) return;
  const exited = exitOf(worker);
  worker.kill('SIGTERM');
  const late = setTimeout(() => worker.kill('SIGKILL'), DRAIN_MS);
  await exited;
  clearTimeout(late);
}

function linked(worker: ChildProcess): Promise<'linked'> {
  return new Promise((resolve) => worker.on('message', () => resolve('linked')));
}

function exitOf(worker: ChildProcess): Promise<'exited'> {
  return new Promise((resolve) => worker.once('exit', () => resolve('exited')));
}

/** Ctrl-C, a kill, a closed terminal, or the end of the process that started this one. Whoever asks twice is not kept waiting. */
function stopSignal(): Promise<'asked'> {
  return new Promise((resolve) => {
    let asked = false;
    const ask = () => {
      if (asked) process.exit(1);
      asked = true;
      resolve('asked');
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, ask);
    process.on('disconnect', () => resolve('asked'));
  });
}

function greeting(url: string, apiKey: string, model: string, isDemo: boolean): string {
  const body = isDemo
    ? { model, stream: true, messages: [{ role: 'user', content: 'Tell me a story about a fox named Milo' }] }
    : { model, stream: true, prompt: 'Once upon a time', max_tokens: 100 };
  const route = isDemo ? 'chat/completions' : 'completions';
  return [
    '',
    `Nibble is up at ${url} with ${model}. Try:`,
    '',
    `curl -N ${url}/v1/${route} -H 'Authorization: Bearer ${apiKey}' -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`,
    '',
    'and then what it cost:',
    '',
    `curl ${url}/v1/usage -H 'Authorization: Bearer ${apiKey}'`,
    '',
    'Ctrl-C stops everything.',
  ].join('\n');
}
