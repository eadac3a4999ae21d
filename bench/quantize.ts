/** BenchQuantize: `nibble quantize` and GPTQ in plain torch (scripts/peers/gptq_torch.py) on the same random Llama and ids, in turns, one process each. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { commitOf } from '../gpu-worker/bench/device.ts';
import { rounded } from '../gpu-worker/bench/report.ts';
import { writeRandomModel } from './random-model.ts';
import type { Recorded } from './recorded.ts';

const ROOT = join(import.meta.dirname, '..');
const RIVAL = 'gptq in torch';

/** What both print. */
interface Run {
  seconds: number;
  cpu_seconds: number;
  max_rss_mb: number;
}

const { values } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    layers: { type: 'string', default: '12' },
    samples: { type: 'string', default: '128' },
    tokens: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '1' },
    threads: { type: 'string', default: '2' },
    out: { type: 'string' },
    note: { type: 'string' },
  },
});
const [layers, samples, tokens, rounds] = [values.layers, values.samples, values.tokens, values.rounds].map(Number) as [
  number,
  number,
  number,
  number,
];
const shape = { hidden: 768, layers, intermediate: 2048, heads: 12, kvHeads: 12, vocab: 32000, contextTokens: tokens };
// Before the work: a folder that cannot be made is known now.
if (values.out !== undefined) mkdirSync(values.out, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), 'nibble-bench-quantize-'));
const model = join(folder, 'model');
const ids = join(folder, 'ids.json');
const ours: Run[] = [];
const theirs: Run[] = [];
const loadAverage = loadavg()[0] ?? null;
try {
  await writeRandomModel(model, shape);
  writeFileSync(ids, JSON.stringify(randomIds()));
  for (let round = 0; round < rounds; round++) {
    ours.push(run(process.execPath, [join(ROOT, 'bench/quantize-ours.ts'), model, ids, values.threads]));
    const flags = ['--bits', '4', '--groupsize', '128', '--threads', values.threads];
    theirs.push(run(values.python, ['-B', join(ROOT, 'scripts/peers/gptq_torch.py'), model, ids, ...flags]));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const settings = {
  'hidden,layers,ffn,heads': `768,${layers},2048,12`,
  samples,
  tokens,
  threads: Number(values.threads),
  rounds,
};
const command = `quantize --peers --layers ${layers} --samples ${samples} --tokens ${tokens} --rounds ${rounds} --threads ${values.threads}`;
const recorded: Recorded = {
  machine: `${(cpus()[0]?.model ?? process.arch).toLowerCase().replace(/[^a-z0-9]+/g, '-')}-${cpus().length}-cores-quantize`,
  measured: new Date().toISOString().slice(0, 10),
  note: values.note ?? null,
  runs: [
    {
      command,
      loadAverage: loadAverage === null ? null : rounded(loadAverage),
      report: {
        task: 'quantize',
        device: cpus()[0]?.model ?? process.arch,
        commit: commitOf(),
        backend: 'wasm',
        settings,
        results: [...resultsOf('nibble', ours), ...resultsOf(RIVAL, theirs)],
        ratios: { [RIVAL]: rounded(median(theirs, 'cpu_seconds') / median(ours, 'cpu_seconds')) },
        peers: [{ name: RIVAL, outcome: 'measured', version: 'scripts/peers/gptq_torch.py' }],
      },
    },
  ],
};
console.log(JSON.stringify(recorded, null, 2));
if (values.out !== undefined)
  writeFileSync(join(values.out, `${recorded.machine}.json`), `${JSON.stringify(recorded, null, 2)}\n`);

function run(program: string, args: readonly string[]): Run {
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error(`${program} ended with ${status}`);
  process.stderr.write(stdout);
  return JSON.parse(stdout) as Run;
}

function resultsOf(name: string, runs: readonly Run[]) {
  return [
    { name: `${name}: wall`, value: rounded(median(runs, 'seconds')), unit: 's' },
    { name: `${name}: CPU`, value: rounded(median(runs, 'cpu_seconds')), unit: 's' },
    { name: `${name}: peak memory`, value: rounded(median(runs, 'max_rss_mb')), unit: 'MiB' },
  ];
}

function median(runs: readonly Run[], field: keyof Run): number {
  const sorted = runs.map((each) => each[field]).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function randomIds(): number[][] {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * shape.vocab);
  };
  return Array.from({ length: samples }, () => Array.from({ length: tokens }, next));
}
