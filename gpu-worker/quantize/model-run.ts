/** ModelRun: `nibble quantize` of a whole model: calibrate, quantize, write OUT, measure, upload; each only when what is before it went well. */
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { NibbleError } from '../../core/errors.ts';
import { type CheckpointFiles, openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { readQuantization } from '../../core/formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import { parseModelConfig } from '../../core/model/config.ts';
import { Options } from '../command-line.ts';
import { loadModel } from '../loader.ts';
import { writeOutput } from '../output.ts';
import { perplexityOf } from '../perplexity-of.ts';
import { progressBar } from '../progress.ts';
import { checkUpload, hubAccess } from '../store/hub-access.ts';
import type { LocalModel } from '../store/local.ts';
import { calibrate } from './calibrate.ts';
import { asSpace, checkSpace } from './disk-space.ts';
import { errorPlot } from './error-plot.ts';
import { hashOf, Journal } from './journal.ts';
import type { Machine } from './machine.ts';
import { MAX_SHARD_BYTES, writeModel } from './model-writer.ts';
import type { Outcome } from './outcome.ts';
import { settingsOf } from './quantize-flags.ts';
import { type LinearReport, quantizeModel } from './quantize-model.ts';
import { markdownOf, type Report } from './report.ts';
import type { SolverOptions } from './solver-options.ts';

export interface ModelRun {
  options: Options;
  /** MODEL, as it was typed. */
  source: string;
  out: string;
  solver: SolverOptions;
  files: LocalModel;
}

/** What every step needs to know once the model and the calibration data are read. */
interface Work extends ModelRun {
  checkpoint: CheckpointFiles;
  sequences: readonly (readonly number[])[];
  sequence: 'whole-layer' | 'by-input';
  layers: number;
}

/** OUT appears whole or not at all; what is finished stays in its journal for the same command. */
export async function runModel(run: ModelRun, openMachine: () => Promise<Machine>): Promise<Outcome> {
  const { options, source, out, solver, files } = run;
  const upload = options.text('upload-to-model-id');
  if (upload !== null) checkUpload(upload, hubAccess());
  const config = parseModelConfig(
    await readJson(files, 'config.json', MAX_CONFIG_BYTES, 'required'),
    null,
    `${source}/config.json`,
  );
  const checkpoint = await openPlain(files, source);
  const evaluated = options.text('eval');
  const before = evaluated === null ? null : await evaluate(files.directory, evaluated, options);
  const { sequences, dataset } = await calibrate(options, files, config);
  const sequence = options.on('true-sequential') ? 'by-input' : 'whole-layer';
  const tokens = sequences.reduce((sum, { length }) => sum + length, 0);
  const modelBytes = [...checkpoint.tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
  await checkSpace(out, { modelBytes, tokens, hidden: config.hidden });
  const work: Work = { ...run, checkpoint, sequences, sequence, layers: config.layers };
  const startMs = performance.now();
  const { journal, linears, backend } = await quantizeLayers(work, await openMachine());
  const settings = settingsOf(solver, { dataset, sequence, seed: options.number('seed') ?? 0 });
  const seconds = (performance.now() - startMs) / 1000;
  const samples = sequences.length;
  const report: Report = { model: source, settings, backend, samples, tokens, linears, seconds, evaluation: null };
  let bytes = 0;
  await writeOutput(out, { kind: 'directory', force: options.on('force'), source }, async (temporary) => {
    bytes = await writeWeights(work, journal, linears, temporary);
    if (before !== null) {
      const { perplexity: after } = await evaluate(temporary, evaluated!, options);
      report.evaluation = { file: evaluated!, tokens: before.tokens, before: before.perplexity, after };
    }
    await writeReport(report, solver.bits, temporary);
  });
  await journal.remove();
  const uploaded =
    upload === null ? null : await (await import('../store/hub.ts')).uploadModel(resolve(out), upload, hubAccess());
  return { out, bits: solver.bits, bytes, report, uploaded };
}

async function openPlain(files: LocalModel, source: string): Promise<CheckpointFiles> {
  const checkpoint = await openCheckpoint(files);
  if ((await readQuantization(files, null, checkpoint)).kind === 'none') return checkpoint;
  const reason = 'the model is quantized already; dequantize it first';
  throw new NibbleError({ code: 'model_unsupported', file: source, option: 'quantize', reason });
}

/** Closes the machine. */
async function quantizeLayers(
  { files, out, solver, checkpoint, sequences, sequence }: Work,
  machine: Machine,
): Promise<{ journal: Journal; linears: LinearReport[]; backend: string }> {
  const { passes, kernels } = machine;
  try {
    const journal = await Journal.open(out, {
      version: 1,
      model: files.directory,
      tensors: [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]),
      files: await files.fingerprint(),
      solver,
      sequence,
      backend: passes.name,
      calibration: hashOf(sequences),
    });
    const onProgress = progressBar('Quantizing');
    const job = { model: files.directory, options: solver, sequence, sequences, journal, passes, kernels, onProgress };
    return { journal, linears: await quantizeModel(job), backend: passes.name };
  } catch (error) {
    throw asSpace(error, out);
  } finally {
    await machine.close();
  }
}

/** Resolves to the bytes of all weight files. */
function writeWeights(
  { options, files, solver, checkpoint, sequence, layers }: Work,
  journal: Journal,
  reports: readonly LinearReport[],
  directory: string,
): Promise<number> {
  const maxShardBytes = options.number('max-shard-size') ?? MAX_SHARD_BYTES;
  const model = { files, checkpoint, journal, layers, reports, options: solver, sequence, maxShardBytes };
  return writeModel(model, directory, progressBar('Writing'));
}

async function writeReport(report: Report, bits: number, directory: string): Promise<void> {
  const plot = 'quantize-report.svg';
  await writeFile(join(directory, plot), errorPlot(report.linears, `GPTQ of ${report.model}, ${bits} bits`));
  await writeFile(join(directory, 'quantize-report.md'), markdownOf(report, plot));
}

async function evaluate(model: string, file: string, options: Options) {
  const loading = new Options(
    [],
    new Map([
      ['model-id', model],
      ['backend', options.text('backend') ?? 'auto'],
    ]),
  );
  const loaded = await loadModel(loading);
  const result = await perplexityOf(loaded, { file, context: null, limit: null, onWindow: progressBar('Scoring') });
  await loaded.backend.dispose();
  return result;
}
