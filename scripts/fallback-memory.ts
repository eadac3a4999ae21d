/**
 * Fallback memory: what a model takes in the fallback's isolate, in workerd, through the whole edge. JavaScript's heap and the backing
 * stores of its ArrayBuffers are V8's own numbers (Runtime.getHeapUsage over the inspector), WebAssembly memory is its byteLength as the
 * object tells it. Beside them the resident set of the fallback's process, as Linux counts it: workerd itself takes the difference.
 *
 *   node scripts/with-node.mjs scripts/fallback-memory.ts [--model-id DIRECTORY] [--shape …] [--head tied|own] [--context-tokens 512]
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import type { MemoryPlan } from '../edge/fallback/memory-plan.ts';
import { allowFallback, devKeys } from '../gpu-worker/dev-account.ts';
import { freePort } from '../gpu-worker/free-port.ts';
import { startLocalEdge } from '../gpu-worker/local-edge.ts';
import { Inspector } from './inspector.ts';
import { makeRandomModel } from './random-model.ts';

const { values: options } = parseArgs({
  options: {
    'model-id': { type: 'string' },
    shape: { type: 'string', default: '768,12,2048,12,4,32000' },
    'group-size': { type: 'string', default: '64' },
    head: { type: 'string', default: 'tied' },
    'context-tokens': { type: 'string', default: '512' },
    'new-tokens': { type: 'string', default: '128' },
  },
});
const contextTokens = Number(options['context-tokens']);
const newTokens = Number(options['new-tokens']);
const MODEL = 'measured';
/** Answers after which memory is looked at. */
const LOOKS = 6;

const folder = await mkdtemp(join(tmpdir(), 'nibble-fallback-'));
try {
  await measure();
} finally {
  await rm(folder, { recursive: true, force: true });
}
process.exit();

async function measure(): Promise<void> {
  let directory = options['model-id'];
  let parameters: number | null = null;
  if (directory === undefined) {
    directory = join(folder, 'model');
    parameters = await makeRandomModel(directory, {
      shape: options.shape.split(',').map(Number),
      groupSize: Number(options['group-size']),
      head: options.head === 'own' ? 'own' : 'tied',
      contextTokens: 2048,
    });
  }
  const state = join(folder, 'state');
  const inspectorPort = await freePort();
  const edge = await startLocalEdge({
    port: await freePort(),
    state,
    models: { [MODEL]: directory },
    // A busy machine may take longer to load than a client would wait.
    variables: { QUEUE_TIMEOUT_MS: '600000' },
    fallbackInspectorPort: inspectorPort,
  });
  const inspector = await Inspector.connect(inspectorPort);
  const probe = await startProbe(state);
  const pid = fallbackPid();
  const before = await residentSet(pid);
  const script = await inspector.usage();
  const { apiKey } = await devKeys(edge.url, edge.adminKey, join(state, 'dev.json'));
  await allowFallback(edge.url, edge.adminKey, MODEL);

  const prompt = Array.from({ length: contextTokens - newTokens }, (_, i) => 10 + (i % 200));
  const first = performance.now();
  const cpuBeforeS = await cpuSeconds(pid);
  // The shortest answer there is: nearly all of its time is loading.
  await complete(edge.url, apiKey, prompt.slice(0, 1), 1);
  const loadedMs = performance.now() - first;
  const loadCpuS = (await cpuSeconds(pid)) - cpuBeforeS;
  const loaded = await inspector.usage();
  await complete(edge.url, apiKey, prompt, 1);
  const started = performance.now();
  const { usage, backend } = await complete(edge.url, apiKey, prompt, newTokens);
  const wallMs = performance.now() - started;
  // V8 collects when it likes, and workerd's inspector cannot ask it to: the least of several looks has the least garbage in it.
  const looks = [await inspector.usage()];
  while (looks.length < LOOKS) {
    await complete(edge.url, apiKey, prompt, newTokens);
    looks.push(await inspector.usage());
  }
  const { plan, wasmBytes } = await probe.memory();
  const again = performance.now();
  await complete(edge.url, apiKey, prompt, 1);
  const prefillMs = performance.now() - again;

  const after = await residentSet(pid);
  const result = {
    model: options['model-id'] ?? `random, ${options.shape}, group ${options['group-size']}, ${options.head} f16 head`,
    parameters,
    backend,
    tokens: usage,
    plan,
    megabytes: {
      'script alone: heap': megabytes(script.heapBytes),
      'loaded: heap': megabytes(loaded.heapBytes),
      'loaded: ArrayBuffers': megabytes(loaded.bufferBytes),
      'heap, least and most after each of the answers': spread(looks.map(({ heapBytes }) => heapBytes)),
      'ArrayBuffers likewise': spread(looks.map(({ bufferBytes }) => bufferBytes)),
      'WebAssembly memory': megabytes(wasmBytes),
      'heap + ArrayBuffers + WebAssembly memory': spread(
        looks.map(({ heapBytes, bufferBytes }) => heapBytes + bufferBytes + wasmBytes),
      ),
      'resident set of the process': megabytes(after.nowBytes),
      'its peak, loading included': megabytes(after.peakBytes),
      'resident set before the model': megabytes(before.nowBytes),
    },
    'load, s': Number((loadedMs / 1000).toFixed(2)),
    'load, s of CPU of the whole process': Number(loadCpuS.toFixed(2)),
    'decoded tokens per s': Number(((1000 * (newTokens - 1)) / (wallMs - prefillMs)).toFixed(1)),
  };
  console.log(JSON.stringify(result, null, 2));
  inspector.close();
  await probe.stop();
  await edge.stop();
}

interface Measured {
  plan: MemoryPlan;
  wasmBytes: number;
}

async function complete(url: string, apiKey: string, prompt: number[], maxTokens: number) {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, prompt, max_tokens: maxTokens, temperature: 0, ignore_eos: true }),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(`${response.status}: ${JSON.stringify(body)}`);
  return { usage: body.usage, backend: response.headers.get('x-nibble-backend') };
}

/** The one workerd of this process that has an inspector: the fallback's. */
function fallbackPid(): number {
  const lines = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  const processes = lines.map((line) => /^ *(\d+) +(\d+) +(.*)$/.exec(line));
  const found = processes.filter(
    (match) => Number(match?.[2]) === process.pid && match![3]!.includes('--inspector-addr'),
  );
  if (found.length !== 1) throw new Error(`${found.length} workerd processes have an inspector`);
  return Number(found[0]![1]);
}

async function residentSet(pid: number): Promise<{ nowBytes: number; peakBytes: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const bytes = (name: string) => 1024 * Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)![1]);
  return { nowBytes: bytes('VmRSS'), peakBytes: bytes('VmHWM') };
}

/** User and system time so far; Linux counts them in hundredths. */
async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** A script of two lines that finds the fallback's object as the queue does, and asks it. */
async function startProbe(state: string) {
  const { unstable_startWorker: startWorker } = await import('wrangler');
  const config = join(state, 'probe.json');
  const binding = { name: 'FALLBACK', class_name: 'FallbackObject', script_name: 'nibble-fallback' };
  const main = join(import.meta.dirname, 'fallback-probe.ts');
  const worker = { name: 'nibble-probe', main, compatibility_date: '2026-10-01' };
  await writeFile(config, JSON.stringify({ ...worker, durable_objects: { bindings: [binding] } }));
  const started = await startWorker({
    config,
    dev: {
      server: { hostname: '127.0.0.1', port: 0 },
      watch: false,
      inspector: false,
      logLevel: 'warn',
      registry: join(state, 'registry'),
    },
  });
  const url = await started.url;
  return {
    memory: async () => (await (await fetch(new URL(`/${MODEL}`, url))).json()) as Measured,
    stop: () => started.dispose(),
  };
}

function spread(bytes: readonly number[]): [number, number] {
  return [megabytes(Math.min(...bytes)), megabytes(Math.max(...bytes))];
}

function megabytes(bytes: number): number {
  return Number((bytes / 1e6).toFixed(1));
}
