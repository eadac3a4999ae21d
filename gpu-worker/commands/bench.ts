/** Bench: how fast this machine decodes, prefills and multiplies, alone or against rivals in the same run. */
import { benchEdge } from '../bench/edge-task.ts';
import { benchKernels } from '../bench/kernel-task.ts';
import { benchDecode, benchPrefill, type TaskCounts } from '../bench/model-tasks.ts';
import { rivalsOf } from '../bench/peers.ts';
import { type BenchReport, tableOf } from '../bench/report.ts';
import { benchServe } from '../bench/serve-task.ts';
import { DEFAULT_SHAPE } from '../bench/shape.ts';
import { WEIGHT_FLAGS } from '../bench/weight-format.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { JSON_FLAG, MODEL_FLAGS } from '../model-flags.ts';

const TASKS = ['decode', 'prefill', 'serve', 'kernels', 'edge'];
/** What says something to the edge's bench, which has no model, and to that of a server. */
const EDGE_FLAGS = ['peers', 'rivals', 'rounds', 'seconds', 'clients', 'streams', 'new-tokens', 'json'];
const SERVE_FLAGS = [...Object.keys(MODEL_FLAGS), 'batch', 'rounds', 'prompt-tokens', 'new-tokens', 'json'];
const ONLY_EDGE = ['seconds', 'clients', 'streams'];
/** Flags that say nothing to a task: refused, never ignored. */
const FOREIGN: Readonly<Record<string, readonly string[]>> = {
  decode: ['prompt-tokens', ...ONLY_EDGE],
  prefill: ['batch', 'context', 'new-tokens', ...ONLY_EDGE],
  kernels: ['model-id', 'quantize', 'tied', 'new-tokens', 'profile', ...ONLY_EDGE],
};

export const bench: Command = {
  name: 'bench',
  summary: 'measure decode, prefill, serving, single kernels or the edge',
  positionals: ['TASK'],
  flags: {
    ...MODEL_FLAGS,
    shape: {
      kind: 'text',
      value: 'hidden,layers,ffn,heads,kvHeads,vocab',
      help: `a Llama of random weights instead of --model-id (${DEFAULT_SHAPE})`,
    },
    ...WEIGHT_FLAGS,
    tied: { kind: 'switch', help: 'one matrix for embedding and head, as in small models' },
    batch: {
      kind: 'text',
      value: '1,16',
      help: 'sequences that decode together (serve: clients that ask at once), each count measured (1)',
    },
    context: { kind: 'integer', minimum: 0, help: 'tokens before the first decoded one (0; kernels 1024)' },
    'new-tokens': { kind: 'integer', minimum: 1, help: 'tokens that one measurement decodes (128; edge 32 an answer)' },
    'prompt-tokens': { kind: 'integer', minimum: 1, help: 'tokens that one prefill step takes (512)' },
    rounds: { kind: 'integer', minimum: 1, help: 'measurements of each contender, of which the median counts (5)' },
    threads: { kind: 'integer', minimum: 1, help: 'threads of the CPU, ours and the rivals’ (1)' },
    seconds: { kind: 'integer', minimum: 1, help: 'edge: how long one measurement takes (4)' },
    clients: { kind: 'integer', minimum: 1, help: 'edge: that ask at once (32)' },
    streams: { kind: 'integer', minimum: 0, help: 'edge: held open together at the end (1000)' },
    peers: {
      kind: 'switch',
      help: 'rivals in the same run: node-llama-cpp and wllama; kernels: onnxruntime-web; edge: litellm and portkey',
    },
    rivals: { kind: 'text', value: 'a,b', help: 'of the rivals, only these' },
    profile: { kind: 'switch', help: 'where the time of decode or prefill goes, by kernel' },
    json: JSON_FLAG,
  },
  pending: [],
  examples: [
    'nibble bench decode --shape 768,12,2048,12,12,32000 --group-size 32 --head-bits 4 --peers',
    'nibble bench decode --shape 4096,32,11008,32,32,32000 --batch 1,16 --backend webgpu --json',
    'nibble bench prefill --model-id models/demo/gptq-int4 --prompt-tokens 256',
    'nibble bench kernels --backend wasm',
    'nibble bench serve --model-id models/demo/gptq-int4 --batch 1,8,32 --prompt-tokens 64',
    'nibble bench edge --peers --json',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const [task] = options.positionals;
  if (!TASKS.includes(task!)) throw usage(`there is no bench "${task}"; it is one of ${TASKS.join(', ')}`);
  for (const flag of foreignTo(task!)) if (options.has(flag)) throw usage(`--${flag} is not for bench ${task}`);
  if (task === 'edge') return print(options, await benchEdge(options));
  if (task !== 'serve' && options.has('quantize') && !options.has('model-id'))
    throw usage('--quantize is for --model-id; random weights are stored as --weights says');
  const counts = countsOf(options);
  if (task === 'serve') return print(options, await benchServe(options, counts));
  rivalsOf(options, task === 'kernels' ? 'gemv' : 'model');
  const report = await runTask(task as 'decode' | 'prefill' | 'kernels', options, counts);
  print(options, report);
}

function foreignTo(task: string): readonly string[] {
  const known = { edge: EDGE_FLAGS, serve: SERVE_FLAGS }[task];
  return known === undefined ? FOREIGN[task]! : Object.keys(bench.flags).filter((flag) => !known.includes(flag));
}

function print(options: Options, report: BenchReport): void {
  console.log(options.on('json') ? JSON.stringify(report) : tableOf(report));
}

function runTask(task: 'decode' | 'prefill' | 'kernels', options: Options, counts: TaskCounts): Promise<BenchReport> {
  switch (task) {
    case 'decode':
      return benchDecode(options, counts);
    case 'prefill':
      return benchPrefill(options, counts);
    case 'kernels':
      return benchKernels(options, counts);
    default:
      return task satisfies never;
  }
}

function countsOf(options: Options): TaskCounts {
  const threads = options.number('threads') ?? 1;
  const text = options.text('batch') ?? '1';
  const batches = text.split(',').map((part) => (/^\s*\d{1,4}\s*$/.test(part) ? Number(part) : 0));
  if (batches.some((batch) => batch < 1))
    throw usage(`--batch is "${text}"; whole numbers above 0 are needed, as 1,16`);
  return {
    batches: [...new Set(batches)],
    context: options.number('context') ?? 0,
    newTokens: options.number('new-tokens') ?? 128,
    promptTokens: options.number('prompt-tokens') ?? 512,
    rounds: options.number('rounds') ?? 5,
    threads,
  };
}
