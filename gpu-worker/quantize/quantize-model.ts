/** QuantizeModel: layer by layer through a model: Hessians, solve, write to the journal, on to the next layer with what was quantized. */
import { floatsOf } from '../../core/formats/floats.ts';
import type { GptqConfig } from '../../core/formats/gptq-config.ts';
import { readPlainWeight } from '../../core/formats/plain.ts';
import { tensorName } from '../../core/formats/tensor-reader.ts';
import { HiddenStates } from './hidden-states.ts';
import type { Journal } from './journal.ts';
import type { SolverKernels } from './kernels.ts';
import { type LayerInput, layerInputs, type NamedLinear, unpackable } from './layer-linears.ts';
import type { LayerPasses } from './layer-passes.ts';
import { type LayerSource, type OpenSource, openSource } from './layer-source.ts';
import { type NamedTensor, packedTensorsOf } from './packed-tensors.ts';
import { prepareHessian, solveLinear } from './solver.ts';
import type { SolverOptions } from './solver-options.ts';

export interface ModelQuantization {
  model: string;
  options: SolverOptions;
  /** whole-layer: every Hessian of a layer comes from its plain weights. by-input: linears see what those before them became. */
  sequence: 'whole-layer' | 'by-input';
  /** Calibration ids. */
  sequences: readonly (readonly number[])[];
  journal: Journal;
  passes: LayerPasses;
  kernels: SolverKernels;
  onProgress(done: number, total: number): void;
}

/** What became of one linear. */
export type LinearReport = { name: string; layer: number; rows: number; columns: number } & (
  | { kind: 'quantized'; relativeError: number; squaredError: number; damping: number; seconds: number }
  /** Left as it was, and why. */
  | { kind: 'plain'; reason: string }
);

/** Leaves every layer's tensors in the journal. Resolves to a report of each linear, in order. */
export async function quantizeModel(job: ModelQuantization): Promise<LinearReport[]> {
  const { model, sequences, journal, passes, onProgress } = job;
  const source = await openSource({ model, packed: null });
  try {
    const { config } = source;
    const hidden = new HiddenStates(
      sequences.map(({ length }) => length),
      config.hidden,
    );
    const first = await journal.resume(hidden, config.layers);
    const passesOf = (layer: number) => 1 + (job.sequence === 'by-input' ? layerInputs(config, layer).length : 1);
    let [done, total] = [0, 0];
    for (let layer = first; layer < config.layers; layer++) total += passesOf(layer) * sequences.length;
    const onSequence = () => onProgress(++done, total);
    if (first === 0) await passes.embed({ model, packed: null }, sequences, hidden);
    for (let layer = first; layer < config.layers; layer++) {
      await quantizeLayer(job, source, layer, hidden, onSequence);
      if (layer + 1 < config.layers) {
        const packed = { file: journal.layerFile(layer), config: packedConfig(job.options) };
        await passes.advance({ model, packed }, layer, hidden, onSequence);
        await journal.saveHidden(layer + 1, hidden);
      }
    }
    onProgress(total, total);
    return await reportsOf(journal, config.layers);
  } finally {
    await source.files.close();
  }
}

async function quantizeLayer(
  job: ModelQuantization,
  source: OpenSource,
  layer: number,
  hidden: HiddenStates,
  onSequence: () => void,
): Promise<void> {
  const { journal, options } = job;
  const reports: LinearReport[] = [];
  const inputs: LayerInput[] = [];
  for (const input of layerInputs(source.config, layer)) {
    const packable: NamedLinear[] = [];
    for (const linear of input) {
      const reason = unpackable(linear, options.bits);
      if (reason === null) packable.push(linear);
      else reports.push({ ...placeOf(linear, layer), kind: 'plain', reason });
    }
    if (packable.length > 0) inputs.push(packable);
  }
  const tensors: NamedTensor[] = [];
  let stage: LayerSource = { model: job.model, packed: null };
  for (const group of job.sequence === 'whole-layer'
    ? inputs.length > 0
      ? [inputs]
      : []
    : inputs.map((input) => [input])) {
    const hessians = await job.passes.hessians(stage, layer, group, hidden, onSequence);
    for (const [i, input] of group.entries())
      await solveInput(job, source, layer, input, hessians[i]!, tensors, reports);
    if (job.sequence === 'by-input')
      stage = {
        model: job.model,
        packed: { file: await journal.saveStage(layer, tensors), config: packedConfig(options) },
      };
  }
  await journal.saveLayer(layer, tensors, reports);
}

async function solveInput(
  { kernels, options }: ModelQuantization,
  { checkpoint }: OpenSource,
  layer: number,
  input: LayerInput,
  hessian: Float32Array,
  tensors: NamedTensor[],
  reports: LinearReport[],
): Promise<void> {
  let startMs = performance.now();
  const { columns, name } = input[0]!;
  const prepared = await prepareHessian(kernels, hessian, columns, options, { file: checkpoint.name, label: name });
  for (const linear of input) {
    const plain = await readPlainWeight(checkpoint, linear.name, {
      outFeatures: linear.rows,
      inFeatures: linear.columns,
      bias: 'none',
    });
    const problem = {
      file: checkpoint.name,
      label: tensorName(linear.name, 'weight'),
      rows: linear.rows,
      columns: linear.columns,
      weight: floatsOf(plain.bytes, plain.dtype),
      bias: null,
    };
    const { weight, damping, squaredError, relativeError } = await solveLinear(kernels, problem, prepared, options);
    tensors.push(...packedTensorsOf(linear.name, weight));
    const seconds = (performance.now() - startMs) / 1000;
    startMs = performance.now();
    reports.push({
      ...placeOf(linear, layer),
      kind: 'quantized',
      relativeError,
      squaredError,
      damping,
      seconds,
    });
  }
  kernels.release(prepared.factor);
}

function placeOf({ name, rows, columns }: NamedLinear, layer: number) {
  return { name, layer, rows, columns };
}

/** How the journal's layers are packed. */
function packedConfig({ bits, groupSize, columnOrder, zeros }: SolverOptions): GptqConfig {
  return {
    bits,
    groupSize,
    actOrder: columnOrder === 'falling-activation',
    symmetric: zeros === 'symmetric',
    zeroOffset: 1,
    plainModules: [],
  };
}

async function reportsOf(journal: Journal, layers: number): Promise<LinearReport[]> {
  const reports: LinearReport[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const { metadata } = await journal.openLayer(layer);
    reports.push(...(JSON.parse(metadata.reports!) as LinearReport[]));
  }
  return reports;
}
