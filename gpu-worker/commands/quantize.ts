/** Quantize: GPTQ from calibration data, as `text-generation-server quantize` does it and more. */
import { statfs, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { NibbleError } from '../../core/errors.ts';
import { openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { readQuantization } from '../../core/formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import { type ModelConfig, parseModelConfig } from '../../core/model/config.ts';
import { MAX_TOKENIZER_BYTES } from '../../core/model/model-files.ts';
import { Tokenizer } from '../../core/text/tokenizer.ts';
import { type Command, Options } from '../command-line.ts';
import { loadModel } from '../loader.ts';
import { JSON_FLAG, MODEL_FLAGS, STORE_FLAGS } from '../model-flags.ts';
import { checkOutput, writeOutput } from '../output.ts';
import { perplexityOf } from '../perplexity-of.ts';
import { progressBar } from '../progress.ts';
import { sampleCalibration } from '../quantize/calibration.ts';
import { readCalibration } from '../quantize/datasets.ts';
import { errorPlot } from '../quantize/error-plot.ts';
import { hashOf, Journal } from '../quantize/journal.ts';
import { quantizeLoneLayer } from '../quantize/lone-layer.ts';
import { type Machine, openMachine } from '../quantize/machine.ts';
import { MAX_SHARD_BYTES, writeModel } from '../quantize/model-writer.ts';
import { CALIBRATION_FLAGS, QUANTIZE_FLAGS, solverOptions } from '../quantize/quantize-flags.ts';
import { type LinearReport, quantizeModel } from '../quantize/quantize-model.ts';
import { evaluationLine, markdownOf, type Report } from '../quantize/report.ts';
import type { SolverOptions } from '../quantize/solver-options.ts';
import { checkUpload, hubAccess } from '../store/hub-access.ts';
import type { LocalModel } from '../store/local.ts';
import { openModelHere } from '../store/open-model.ts';

export const quantize: Command = {
  name: 'quantize',
  summary: 'GPTQ of a model from calibration data',
  positionals: ['MODEL', 'OUT'],
  flags: {
    ...QUANTIZE_FLAGS,
    ...CALIBRATION_FLAGS,
    backend: MODEL_FLAGS.backend,
    threads: { kind: 'integer', minimum: 1, help: 'of the wasm backend and the solver (one a core)' },
    eval: { kind: 'text', value: 'FILE', help: 'perplexity before and after, on this text or JSON array of strings' },
    'upload-to-model-id': {
      kind: 'text',
      value: 'ID',
      help: 'upload OUT to this model on the Hub when it is done (HF_TOKEN, HF_ENDPOINT)',
    },
    'max-shard-size': { kind: 'integer', minimum: 1, help: 'bytes of one weight file at most (10000000000)' },
    ...STORE_FLAGS,
    force: { kind: 'switch', help: 'replace OUT' },
    json: JSON_FLAG,
  },
  pending: [],
  examples: [
    'nibble quantize path/to/model OUT --dataset wikitext2 --dataset-dir path/to/datasets',
    'nibble quantize models/demo/f16 OUT --dataset stories.json --groupsize 64 --true-sequential --eval held-out.json',
    'nibble quantize layer.safetensors OUT.safetensors --bits 4 --act-order   # tensors weight and hessian',
  ],
  run,
};

async function run(options: Options): Promise<void> {
  const [source, out] = options.positionals as [string, string];
  const solver = solverOptions(options);
  const files = await openModelHere(source, options);
  try {
    const force = options.on('force');
    const kind = files.lone === undefined ? 'directory' : 'file';
    await checkOutput(out, { kind, force, source });
    const machine = () => openMachine((options.text('backend') ?? 'auto') as 'auto', options.number('threads'));
    if (files.lone !== undefined) {
      const result = await quantizeLoneLayer({ files, out, force, source, solver }, machine);
      print(options, { out, ...result }, `${out}: error ${(result.relative_error * 100).toFixed(3)}%`);
      return;
    }
    await runModel({ options, source, out, solver, files }, machine);
  } finally {
    await files.close();
  }
}

interface ModelRun {
  options: Options;
  source: string;
  out: string;
  solver: SolverOptions;
  files: LocalModel;
}

async function runModel(run: ModelRun, openMachineOf: () => Promise<Machine>): Promise<void> {
  const { options, source, out, solver, files } = run;
  const upload = options.text('upload-to-model-id');
  if (upload !== null) checkUpload(upload, hubAccess());
  const config = await readConfig(run);
  const checkpoint = await openCheckpoint(files);
  if ((await readQuantization(files, null, checkpoint)).kind !== 'none')
    throw new NibbleError({
      code: 'model_unsupported',
      file: source,
      option: 'quantize',
      reason: 'the model is quantized already; dequantize it first',
    });
  const evaluated = options.text('eval');
  const before = evaluated === null ? null : await evaluate(files.directory, evaluated, options);
  const { sequences, dataset } = await calibrate(run, config);
  const sequence = options.on('true-sequential') ? 'by-input' : 'whole-layer';
  const tensors = [...checkpoint.tensors.values()];
  await checkSpace(
    out,
    tensors.reduce((sum, { begin, end }) => sum + end - begin, 0),
    sequences,
    config,
  );
  const startMs = performance.now();
  const machine = await openMachineOf();
  let reports: LinearReport[];
  let journal: Journal;
  let bytes = 0;
  try {
    journal = await Journal.open(out, {
      version: 1,
      model: files.directory,
      tensors: tensors.map(({ name, dtype, shape }) => [name, dtype, shape]),
      files: await files.fingerprint(),
      solver,
      sequence,
      backend: machine.passes.name,
      calibration: hashOf(sequences),
    });
    reports = await quantizeModel({
      model: files.directory,
      options: solver,
      sequence,
      sequences,
      journal,
      passes: machine.passes,
      kernels: machine.kernels,
      onProgress: progressBar('Quantizing'),
    });
  } catch (error) {
    throw asSpace(error, out);
  } finally {
    await machine.close();
  }
  const report: Report = {
    model: source,
    settings: settingsOf(solver, {
      dataset,
      'true-sequential': sequence === 'by-input',
      seed: options.number('seed') ?? 0,
    }),
    backend: machine.passes.name,
    samples: sequences.length,
    tokens: sequences.reduce((sum, { length }) => sum + length, 0),
    linears: reports,
    seconds: (performance.now() - startMs) / 1000,
    evaluation: null,
  };
  await writeOutput(out, { kind: 'directory', force: options.on('force'), source }, async (temporary) => {
    const maxShardBytes = options.number('max-shard-size') ?? MAX_SHARD_BYTES;
    const model = {
      files,
      checkpoint,
      journal,
      layers: config.layers,
      reports,
      options: solver,
      sequence,
      maxShardBytes,
    } as const;
    bytes = await writeModel(model, temporary, progressBar('Writing'));
    if (before !== null) {
      const after = await evaluate(temporary, evaluated!, options);
      report.evaluation = {
        file: evaluated!,
        tokens: before.tokens,
        before: before.perplexity,
        after: after.perplexity,
      };
    }
    await writeFile(
      join(temporary, 'quantize-report.svg'),
      errorPlot(reports, `GPTQ of ${source}, ${solver.bits} bits`),
    );
    await writeFile(join(temporary, 'quantize-report.md'), markdownOf(report, 'quantize-report.svg'));
  });
  await journal.remove();
  const uploaded =
    upload === null ? null : await (await import('../store/hub.ts')).uploadModel(resolve(out), upload, hubAccess());
  const quantized = reports.filter((linear) => linear.kind === 'quantized');
  const plain = reports.filter((linear) => linear.kind === 'plain');
  const worst = quantized.reduce((most, { relativeError }) => Math.max(most, relativeError), 0);
  print(
    options,
    {
      out,
      quantized: quantized.length,
      plain: plain.map(({ name, reason }) => ({ name, reason })),
      bytes,
      samples: report.samples,
      tokens: report.tokens,
      seconds: report.seconds,
      backend: report.backend,
      ...(uploaded === null ? {} : { uploaded }),
      linears: quantized.map(({ name, relativeError, squaredError, damping }) => ({
        name,
        relative_error: relativeError,
        squared_error: squaredError,
        damping,
      })),
      ...(report.evaluation === null
        ? {}
        : { perplexity: { before: report.evaluation.before, after: report.evaluation.after } }),
    },
    [
      `${out}: ${quantized.length} linears in ${solver.bits} bits (worst error ${(worst * 100).toFixed(2)}%), ${bytes} bytes, ${report.seconds.toFixed(1)} s`,
      ...(plain.length === 0
        ? []
        : [
            `${plain.length} linears stay plain: ${plain[0]!.name}: ${plain[0]!.reason}${plain.length > 1 ? ', …' : ''}`,
          ]),
      ...(report.evaluation === null ? [] : [evaluationLine(report.evaluation)]),
    ].join('\n'),
  );
}

function print(options: Options, json: object, text: string): void {
  console.log(options.on('json') ? JSON.stringify(json) : text);
}

async function readConfig({ files, source }: ModelRun): Promise<ModelConfig> {
  const json = await readJson(files, 'config.json', MAX_CONFIG_BYTES, 'required');
  return parseModelConfig(json, null, `${source}/config.json`);
}

async function calibrate(
  { options, files }: ModelRun,
  config: ModelConfig,
): Promise<{ sequences: number[][]; dataset: string }> {
  const dataset = options.text('dataset') ?? 'wikitext2';
  const { file, content } = await readCalibration(dataset, options.text('dataset-dir') ?? '.');
  const tokenizer = new Tokenizer(
    await readJson(files, 'tokenizer.json', MAX_TOKENIZER_BYTES, 'required'),
    (await readJson(files, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {},
  );
  const sequences = sampleCalibration(content, {
    file,
    samples: options.number('nsamples') ?? 128,
    windowTokens: Math.min(options.number('seqlen') ?? 2048, config.contextTokens),
    seed: options.number('seed') ?? 0,
    encode: (text) => tokenizer.encode(text, 'add'),
  });
  return { sequences, dataset };
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

/** Before hours of work: OUT at most as large as the model, its layers and the hidden states in the journal. */
async function checkSpace(
  out: string,
  modelBytes: number,
  sequences: readonly (readonly number[])[],
  { hidden }: ModelConfig,
): Promise<void> {
  const tokens = sequences.reduce((sum, { length }) => sum + length, 0);
  const needed = 2 * modelBytes + 2 * tokens * hidden * 4;
  const parent = dirname(resolve(out));
  const found = await statfs(parent).catch(() => null);
  if (found === null) return;
  const free = found.bavail * found.bsize;
  if (free < needed)
    throw new NibbleError({
      code: 'file_invalid',
      file: out,
      tensor: null,
      rule: `may need ${needed} bytes while it is made; ${free} are free on its disk`,
    });
}

/** A disk that fills up all the same: the journal stays, and the same command goes on from it. */
function asSpace(error: unknown, out: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof NibbleError || typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error;
  return new NibbleError({
    code: 'file_invalid',
    file: out,
    tensor: null,
    rule: `what is finished cannot be written beside it: ${code}; the same command goes on from the last finished layer`,
  });
}

function settingsOf(solver: SolverOptions, more: Record<string, string | number | boolean>) {
  return {
    bits: solver.bits,
    groupsize: solver.groupSize ?? -1,
    'act-order': solver.columnOrder === 'falling-activation',
    sym: solver.zeros === 'symmetric',
    'static-groups': solver.groups === 'static',
    mse: solver.clipping === 'mse',
    percdamp: solver.damping,
    ...more,
  };
}
