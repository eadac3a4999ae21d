/** Record: runs a set of benches one after another and writes bench/results/<machine>.json, after each run what there is. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import type { BenchReport } from '../gpu-worker/bench/report.ts';
import { drawPlot, PLOT_FILE } from './plot.ts';
import type { Recorded, RecordedRun } from './recorded.ts';

const ROOT = join(import.meta.dirname, '..');
const RESULTS = join(ROOT, 'bench', 'results');

const SHAPE_110M = '--shape 768,12,2048,12,12,32000';
const SHAPE_517M = '--shape 1280,24,3456,20,20,32000';
/** 13 MB, which the last cache holds: two threads of the larger ones share a memory that one already reads at most of its speed. */
const SHAPE_IN_CACHE = '--shape 384,6,1024,6,6,32000';
/** 4.5 bits a weight everywhere, as llama.cpp's Q4_0 has, and its f16 keys and values. */
const LIKE_Q4_0 = '--group-size 32 --head-bits 4 --kv-cache-dtype f16';
const LLAMA_7B = '--shape 4096,32,11008,32,32,32000 --backend webgpu';
const LLAMA_8B = '--shape 4096,32,14336,32,8,128256 --backend webgpu';

const SETS: Readonly<Record<string, readonly string[]>> = {
  wasm: [
    `decode ${SHAPE_110M} ${LIKE_Q4_0} --peers`,
    `decode ${SHAPE_517M} ${LIKE_Q4_0} --peers`,
    // wllama would read its prompts for minutes.
    `decode ${SHAPE_110M} ${LIKE_Q4_0} --context 1024 --peers --rivals node-llama-cpp`,
    `decode ${SHAPE_517M} ${LIKE_Q4_0} --context 1024 --peers --rivals node-llama-cpp`,
    `prefill ${SHAPE_110M} ${LIKE_Q4_0} --peers`,
    `prefill ${SHAPE_517M} ${LIKE_Q4_0} --peers --rivals node-llama-cpp`,
    `decode ${SHAPE_110M} ${LIKE_Q4_0} --batch 1,4,16`,
    `kernels ${SHAPE_110M} ${LIKE_Q4_0} --batch 1,16 --peers`,
    `kernels ${SHAPE_517M} ${LIKE_Q4_0} --batch 1,16`,
  ],
  // Behind each other, as near in time as can be: virtual processors change by the second.
  threads: [
    `decode ${SHAPE_110M} ${LIKE_Q4_0} --threads 2 --peers --rivals node-llama-cpp`,
    `prefill ${SHAPE_110M} ${LIKE_Q4_0} --threads 2 --peers --rivals node-llama-cpp`,
    `decode ${SHAPE_IN_CACHE} ${LIKE_Q4_0} --threads 2`,
    `kernels ${SHAPE_110M} ${LIKE_Q4_0}`,
    `kernels ${SHAPE_517M} ${LIKE_Q4_0}`,
    `kernels ${SHAPE_110M} ${LIKE_Q4_0} --threads 2`,
  ],
  webgpu: [
    `decode ${LLAMA_7B} --batch 1,16`,
    `prefill ${LLAMA_7B}`,
    `decode ${LLAMA_8B} --weights nf4 --batch 1,16`,
    `kernels ${LLAMA_7B} --batch 1,16`,
    `kernels ${LLAMA_8B} --weights nf4 --batch 1,16`,
  ],
  edge: ['edge --peers'],
};

const { values } = parseArgs({
  options: {
    set: { type: 'string', default: 'wasm' },
    machine: { type: 'string' },
    rounds: { type: 'string' },
    note: { type: 'string' },
  },
});
const commands = SETS[values.set];
if (commands === undefined) {
  console.error(`there is no set "${values.set}"; it is one of ${Object.keys(SETS).join(', ')}`);
  process.exit(2);
}
const machine = values.machine ?? slug(`${cpus()[0]?.model ?? process.arch} ${cpus().length} cores ${values.set}`);
const extra = values.rounds === undefined ? '' : ` --rounds ${values.rounds}`;
const runs: RecordedRun[] = [];
mkdirSync(RESULTS, { recursive: true });
for (const command of commands.map((each) => each + extra)) {
  console.error(`\nnpm run bench -- ${command}`);
  const started = performance.now();
  const loadAverage = loadavg()[0] ?? null;
  const { status, stdout } = spawnSync(join(ROOT, 'bin', 'nibble'), ['bench', ...command.split(' '), '--json'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 64 * 2 ** 20,
  });
  if (status !== 0) {
    console.error(`nibble bench ${command.split(' ')[0]} ended with ${status}; what was measured before is kept`);
    process.exitCode = 1;
    continue;
  }
  const report = JSON.parse(stdout) as BenchReport;
  runs.push({ command, loadAverage, report });
  writeFileSync(join(RESULTS, `${machine}.json`), `${JSON.stringify(recorded(), null, 2)}\n`);
  console.error(`${Math.round((performance.now() - started) / 1000)} s; ratios ${JSON.stringify(report.ratios)}`);
}
if (values.set === 'wasm' && process.exitCode === undefined) {
  writeFileSync(join(ROOT, PLOT_FILE), drawPlot(recorded()));
  console.error(`\nwritten: bench/results/${machine}.json, ${PLOT_FILE}`);
}

function recorded(): Recorded {
  return { machine, measured: new Date().toISOString().slice(0, 10), note: values.note ?? null, runs };
}

function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}
