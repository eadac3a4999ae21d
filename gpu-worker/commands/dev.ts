/** Dev: the edge in workerd and one worker, or the edge's fallback alone, on this machine, with one command. */
import { type ChildProcess, fork } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { NibbleError } from '../../core/errors.ts';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import type { Command, Options } from '../command-line.ts';
import { allowFallback, devKeys } from '../dev-account.ts';
import { type LocalEdge, startLocalEdge } from '../local-edge.ts';
import { MODEL_FLAGS, PENDING_MODEL_FLAGS } from '../model-flags.ts';

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
    state: { kind: 'text', value: 'DIR', help: 'where accounts, queues and keys are kept (.nibble)' },
  },
  pending: PENDING_MODEL_FLAGS,
  examples: ['npm start', 'PORT=9000 npm start', 'nibble dev --model-id path/to/model', 'nibble dev --no-worker'],
  run,
};

async function run(options: Options): Promise<void> {
  const state = resolve(options.text('state') ?? join(ROOT, '.nibble'));
  const devJson = join(state, 'dev.json');
  const modelId = options.text('model-id') ?? DEMO_MODEL;
  const model =
    options.text('served-model-name') ?? (options.has('model-id') ? resolve(modelId).split('/').pop()! : DEMO_NAME);
  const asked = stopSignal();
  ensureWasmBuilt();

  let edge: LocalEdge | null = null;
  let worker: ChildProcess | null = null;
  try {
    const port = options.number('port') ?? DEFAULT_PORT;
    const isDemo = modelId === DEMO_MODEL;
    const alone = options.on('no-worker');
    const models: Record<string, string> = isDemo || alone ? { [model]: modelId } : {};
    const starting = startLocalEdge({ port, state, variables: { DEFAULT_MODEL: model }, models });
    const started = await Promise.race([starting, asked]);
    // An edge that is half up goes with this process.
    if (started === 'asked') process.exit(1);
    edge = started;
    const keys = await devKeys(edge.url, edge.adminKey, devJson);
    for (const name of Object.keys(models)) await allowFallback(edge.url, edge.adminKey, name);
    worker = alone ? null : startWorker(edge.url, keys.workerToken, modelId, model, options);
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

function startWorker(edge: string, token: string, modelId: string, servedName: string, options: Options): ChildProcess {
  const flags = ['--edge', edge, '--token', token, '--model-id', modelId, '--served-model-name', servedName];
  for (const name of ['backend', 'quantize', 'head-bits', 'threads'])
    if (options.has(name)) flags.push(`--${name}`, String(options.text(name)));
  // A group of its own: Ctrl-C reaches this process alone, which then stops the worker in order.
  return fork(join(ROOT, 'gpu-worker', 'cli.ts'), ['serve', ...flags], { detached: true });
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
