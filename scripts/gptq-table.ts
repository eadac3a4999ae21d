/** GptqTable: perplexity of round-to-nearest and of `nibble quantize` at every bit width, measured and written into docs/quantization.md. Names of models after it measure those alone. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { openCheckpoint } from '../core/formats/checkpoint-index.ts';
import { Options } from '../gpu-worker/command-line.ts';
import { type LoadedModel, loadModel } from '../gpu-worker/loader.ts';
import { type Perplexity, perplexityOf } from '../gpu-worker/perplexity-of.ts';
import { Journal } from '../gpu-worker/quantize/journal.ts';
import type { LayerPasses } from '../gpu-worker/quantize/layer-passes.ts';
import { type Machine, openMachine } from '../gpu-worker/quantize/machine.ts';
import { MAX_SHARD_BYTES, writeModel } from '../gpu-worker/quantize/model-writer.ts';
import { type LinearReport, quantizeModel } from '../gpu-worker/quantize/quantize-model.ts';
import type { SolverOptions } from '../gpu-worker/quantize/solver-options.ts';
import { openLocalModel } from '../gpu-worker/store/local.ts';

const ROOT = resolve(import.meta.dirname, '..');
const DOCUMENT = join(ROOT, 'docs', 'quantization.md');
const SHARED = process.env.NIBBLE_SHARED_DATA ?? resolve(ROOT, '../shared/data');
const [CALIBRATION, WINDOW_TOKENS] = [256, 512];
/** The demo model loses so little at 4 bits that fewer documents cannot tell. */
const [STORIES, DOCUMENTS] = [200, 1000];

const GROUP_SIZES = [32, 64, 128];

interface Subject {
  name: string;
  title: string;
  model: string;
  calibration: string[];
  evaluation: string[];
}

/** The demo model's texts are made by its own generator, in its own chat form. */
function documentsOf(seed: number, count: number): string[] {
  const args = ['-B', 'generate.py', '--seed', String(seed), '--count', String(count), '--rendered'];
  const cwd = join(ROOT, 'models', 'demo');
  const lines = execFileSync('python3', args, { cwd, encoding: 'utf8', maxBuffer: 1e9 });
  return lines
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as string);
}

const folder = mkdtempSync(join(tmpdir(), 'nibble-table-'));
const stories = JSON.parse(readFileSync(join(SHARED, 'text/tinystories-1000.json'), 'utf8')) as string[];
const subjects: Subject[] = [
  {
    name: 'stories260k',
    title: `stories260k, ${STORIES} stories`,
    model: join(SHARED, 'stories260k'),
    calibration: stories.slice(STORIES, STORIES + CALIBRATION),
    evaluation: stories.slice(0, STORIES),
  },
  {
    name: 'demo',
    title: `the demo model, ${DOCUMENTS} documents`,
    model: join(ROOT, 'models/demo/f16'),
    calibration: documentsOf(901, CALIBRATION),
    evaluation: documentsOf(902, DOCUMENTS),
  },
];

const load = (model: string): Promise<LoadedModel> =>
  loadModel(
    new Options(
      [],
      new Map([
        ['model-id', model],
        ['backend', 'wasm'],
      ]),
    ),
  );

async function perplexity(model: string, file: string): Promise<Perplexity> {
  const loaded = await load(model);
  const result = await perplexityOf(loaded, { file, context: null, limit: null, onWindow: () => {} });
  await loaded.backend.dispose();
  return result;
}

/**
 * Mean NLL of one model less another's on the same documents, in 1e-4 nats a token, and its standard error: documents are independent,
 * tokens of one are not, and what both models find hard falls out of the difference.
 */
function difference(one: Perplexity, other: Perplexity): string {
  const mean = one.meanNll - other.meanNll;
  const residues = one.windows.map(({ nll, tokens }, i) => nll - other.windows[i]!.nll - mean * tokens);
  const spread = residues.reduce((sum, residue) => sum + residue ** 2, 0) * (residues.length / (residues.length - 1));
  return `${(mean * 1e4).toFixed(2)} ± ${((Math.sqrt(spread) / one.tokens) * 1e4).toFixed(2)}`;
}

/** Without correlations between inputs nothing is corrected: GPTQ's sweep then rounds each weight to its nearest level. */
function uncorrelated(passes: LayerPasses): LayerPasses {
  return {
    name: passes.name,
    embed: async () => {},
    advance: async () => {},
    close: async () => {},
    hessians: async (_source, _layer, inputs) =>
      inputs.map(([first]) => {
        const { columns } = first!;
        return Float32Array.from({ length: columns * columns }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
      }),
  };
}

async function quantized(
  { model }: Subject,
  machine: Machine,
  passes: LayerPasses,
  sequences: number[][],
  options: SolverOptions,
  file: string,
): Promise<{ measured: Perplexity; reports: LinearReport[] }> {
  const out = join(folder, 'out');
  rmSync(out, { recursive: true, force: true });
  const journal = await Journal.open(out, { at: Math.random() });
  const { kernels } = machine;
  const job = { model, options, sequence: 'whole-layer', sequences, journal, passes, kernels } as const;
  const reports = await quantizeModel({ ...job, onProgress: () => {} });
  const files = await openLocalModel(model);
  const checkpoint = await openCheckpoint(files);
  await mkdir(out);
  const layers = 1 + Math.max(...reports.map(({ layer }) => layer));
  const written = { files, checkpoint, journal, layers, reports, options, sequence: 'whole-layer' } as const;
  await writeModel({ ...written, maxShardBytes: MAX_SHARD_BYTES }, out, () => {});
  await files.close();
  await journal.remove();
  return { measured: await perplexity(out, file), reports };
}

async function tableOf(subject: Subject, machine: Machine): Promise<string[]> {
  const file = join(folder, 'evaluation.json');
  writeFileSync(file, JSON.stringify(subject.evaluation));
  const loaded = await load(subject.model);
  const sequences = subject.calibration.map((text) => loaded.tokenizer.encode(text, 'add').slice(0, WINDOW_TOKENS));
  await loaded.backend.dispose();
  const plain = await perplexity(subject.model, file);
  const rows: string[] = [];
  const left = new Map<number, Set<string>>();
  for (const bits of [2, 3, 4, 8] as const)
    for (const groupSize of GROUP_SIZES) {
      const options: SolverOptions = {
        bits,
        groupSize,
        columnOrder: 'natural',
        groups: 'running',
        zeros: 'symmetric',
        clipping: 'none',
        damping: 0.01,
      };
      const rtn = await quantized(subject, machine, uncorrelated(machine.passes), sequences, options, file);
      const gptq = await quantized(subject, machine, machine.passes, sequences, options, file);
      const ordered = { ...options, columnOrder: 'falling-activation' } as const;
      const actOrder = await quantized(subject, machine, machine.passes, sequences, ordered, file);
      for (const { name, kind } of gptq.reports)
        if (kind === 'plain') left.set(bits, (left.get(bits) ?? new Set()).add(name.replace(/^.*\.\d+\./, '')));
      const numbers = [rtn, gptq, actOrder].map(({ measured }) => measured.perplexity.toFixed(4));
      const differences = [gptq, actOrder].map(({ measured }) => difference(measured, rtn.measured));
      const isWhole = gptq.reports.every(({ kind, columns }) => kind === 'plain' || columns <= groupSize);
      // Larger groups than the rows are long are the same groups.
      for (const same of isWhole ? GROUP_SIZES.filter((size) => size >= groupSize) : [groupSize])
        rows.push(`| ${bits} | ${same} | ${[...numbers, ...differences].join(' | ')} |`);
      process.stderr.write(`${subject.title}: ${rows.at(-1)}\n`);
      if (isWhole) break;
    }
  const plainLines = [...left].map(([bits, names]) => `at ${bits} bits ${[...names].join(', ')}`);
  return [
    `${subject.title}, ${plain.tokens} tokens: perplexity ${plain.perplexity.toFixed(4)} without quantization; ${sequences.length} calibration samples, symmetric, wasm backend.${plainLines.length > 0 ? ` Plain, because their shape does not fill whole words: ${plainLines.join('; ')}.` : ''}`,
    '',
    '| bits | group | round-to-nearest | GPTQ | GPTQ, act-order | GPTQ − RTN | act-order − RTN |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
  ];
}

const chosen = subjects.filter(({ name }) => process.argv.length === 2 || process.argv.includes(name));
const machine = await openMachine('wasm', null);
try {
  for (const subject of chosen) writeTable(subject.name, await tableOf(subject, machine));
} finally {
  await machine.close();
  rmSync(folder, { recursive: true, force: true });
}

function writeTable(name: string, lines: readonly string[]): void {
  const [begin, end] = [`<!-- gptq table ${name}: begin -->`, `<!-- gptq table ${name}: end -->`];
  const text = readFileSync(DOCUMENT, 'utf8');
  const [before, rest] = text.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new Error(`${DOCUMENT} has no ${begin} … ${end}`);
  writeFileSync(DOCUMENT, `${before}${begin}\n${lines.join('\n')}\n${end}${after}`);
}
