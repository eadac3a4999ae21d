/** Dequantize: writes plain weights from GPTQ or bitsandbytes ones, tensor by tensor. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NibbleError } from '../../core/errors.ts';
import { type CheckpointFiles, openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { gptqConfigOfMetadata } from '../../core/formats/gptq-config.ts';
import { f32ToF16Array } from '../../core/formats/half.ts';
import { type Quantization, readLinearWeight, readQuantization } from '../../core/formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import {
  packedTensors,
  type QuantizedModule,
  quantizedModules,
  shapeOf,
} from '../../core/formats/quantized-modules.ts';
import type { PlannedTensor } from '../../core/formats/safetensors-writer.ts';
import { tensorName } from '../../core/formats/tensor-reader.ts';
import { dequantize as dequantizeWeight } from '../../core/model/reference-weights.ts';
import { type Command, type Options, usage } from '../command-line.ts';
import { GPTQ_FLAGS, gptqParameters } from '../gptq-flags.ts';
import { JSON_FLAG, STORE_FLAGS } from '../model-flags.ts';
import { writeOutput } from '../output.ts';
import { progressBar } from '../progress.ts';
import { writeSafetensors } from '../safetensors-file.ts';
import { openModel } from '../store/open-model.ts';
import type { StoredModel } from '../store/stored-model.ts';

export const dequantize: Command = {
  name: 'dequantize',
  summary: 'plain weights from GPTQ or bitsandbytes ones',
  positionals: ['MODEL', 'OUT'],
  flags: {
    dtype: { kind: 'text', choices: ['float32', 'float16'], help: 'of the weights that were packed (float32)' },
    ...GPTQ_FLAGS,
    ...STORE_FLAGS,
    force: { kind: 'switch', help: 'replace OUT' },
    json: JSON_FLAG,
  },
  pending: [],
  examples: [
    'nibble dequantize models/demo/gptq-int4 plain --dtype float16',
    'nibble dequantize layer.safetensors plain.safetensors --bits 4 --group-size 128 --sym',
  ],
  run,
};

type Float = 'F32' | 'F16';
type OutputTensor = PlannedTensor & { module: QuantizedModule | null };

async function run(options: Options): Promise<void> {
  const [source, out] = options.positionals as [string, string];
  const dtype: Float = options.text('dtype') === 'float16' ? 'F16' : 'F32';
  const files = await openModel(source, options);
  try {
    const given = gptqParameters(options);
    if (files.lone === undefined && Object.keys(given).length > 0)
      throw usage(`${Object.keys(given)[0]} is for a lone file; a directory says it in its config`);
    const checkpoint = await openCheckpoint(files);
    const modules = quantizedModules(checkpoint);
    if (modules.length === 0)
      throw new NibbleError({ code: 'model_unsupported', file: source, option: 'dequantize', reason: NOTHING_PACKED });
    const quantizationOf = await readQuantizations(files, checkpoint, modules, given);
    const tensors = await planTensors(checkpoint, modules, quantizationOf, dtype);
    const write = (path: string) =>
      writeSafetensors(
        path,
        tensors,
        (tensor) => bytesOf(checkpoint, tensor, quantizationOf, dtype),
        progressBar('Dequantizing'),
      );
    const kind = files.lone === undefined ? 'directory' : 'file';
    let bytes = 0;
    await writeOutput(out, { kind, force: options.on('force'), source }, async (temporary) => {
      if (kind === 'file') {
        bytes = await write(temporary);
        return;
      }
      await copyCompanions(files, temporary, dtype);
      bytes = await write(join(temporary, 'model.safetensors'));
    });
    const result = { out, dequantized: modules.length, tensors: tensors.length, bytes, dtype: NAMES[dtype] };
    console.log(
      options.on('json')
        ? JSON.stringify(result)
        : `${out}: ${result.dequantized} weights in ${result.dtype}, ${result.tensors} tensors, ${result.bytes} bytes`,
    );
  } finally {
    await files.close();
  }
}

const NOTHING_PACKED = 'there are no GPTQ and no bitsandbytes weights in it';
const NAMES: Readonly<Record<Float, string>> = { F32: 'float32', F16: 'float16' };

/** What to read a module as: GPTQ with the file's parameters, or whatever bitsandbytes left. */
async function readQuantizations(
  files: StoredModel,
  checkpoint: CheckpointFiles,
  modules: readonly QuantizedModule[],
  given: ReturnType<typeof gptqParameters>,
): Promise<(module: QuantizedModule) => Quantization> {
  const bitsandbytes: Quantization = { kind: 'bitsandbytes-checkpoint', method: 'int8', threshold: 0 };
  if (!modules.some(({ kind }) => kind === 'gptq')) return () => bitsandbytes;
  const gptq: Quantization =
    files.lone === undefined
      ? await readQuantization(files, 'gptq', checkpoint)
      : { kind: 'gptq', config: gptqConfigOfMetadata(checkpoint.metadata, files.name, given) };
  return ({ kind }) => (kind === 'gptq' ? gptq : bitsandbytes);
}

/** Packed weights become `prefix.weight`; every other tensor is copied as it is. */
async function planTensors(
  checkpoint: CheckpointFiles,
  modules: readonly QuantizedModule[],
  quantizationOf: (module: QuantizedModule) => Quantization,
  dtype: Float,
): Promise<OutputTensor[]> {
  const packed = packedTensors(checkpoint, modules);
  const tensors: OutputTensor[] = [...checkpoint.tensors.values()]
    .filter(({ name }) => !packed.has(name))
    .map(({ name, dtype, shape }) => ({ name, dtype, shape, module: null }));
  for (const module of modules) {
    const quantization = quantizationOf(module);
    const shape = await shapeOf(checkpoint, module, quantization.kind === 'gptq' ? quantization.config.bits : 0);
    tensors.push({ name: tensorName(module.prefix, 'weight'), dtype, shape, module });
  }
  return tensors;
}

async function bytesOf(
  checkpoint: CheckpointFiles,
  { name, shape, module }: OutputTensor,
  quantizationOf: (module: QuantizedModule) => Quantization,
  dtype: Float,
): Promise<Uint8Array> {
  if (module === null) return checkpoint.read(name);
  const [outFeatures, inFeatures] = shape as [number, number];
  const linear = { outFeatures, inFeatures, bias: 'optional' } as const;
  const values = dequantizeWeight(await readLinearWeight(checkpoint, module.prefix, quantizationOf(module), linear));
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  const halves = f32ToF16Array(values);
  const broken = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
  if (broken >= 0)
    throw new NibbleError({
      code: 'file_invalid',
      file: checkpoint.name,
      tensor: name,
      rule: `holds ${values[broken]}, which is beyond float16; use --dtype float32`,
    });
  return new Uint8Array(halves.buffer);
}

/** Weights in other forms, configs that say how weights were packed, and the report of how they were. */
const LEFT_BEHIND =
  /\.(safetensors|bin|pt|pth|gguf|onnx|index\.json)$|^(quantize_config|quant_config|config)\.json$|^quantize-report\./;

/** config.json without its quantization; tokenizer, template and other small files as they are. */
async function copyCompanions(files: StoredModel, target: string, dtype: Float): Promise<void> {
  for (const name of await files.list()) {
    const source = LEFT_BEHIND.test(name) ? null : await files.open(name);
    if (source !== null) await writeFile(join(target, name), await source.read(0, source.size));
  }
  const config = await readJson(files, 'config.json', MAX_CONFIG_BYTES);
  if (typeof config !== 'object' || config === null) return;
  const { quantization_config: _, ...rest } = config as Record<string, unknown>;
  // transformers 5 calls it dtype.
  const key = 'dtype' in rest ? 'dtype' : 'torch_dtype';
  await writeFile(join(target, 'config.json'), `${JSON.stringify({ ...rest, [key]: NAMES[dtype] }, null, 2)}\n`);
}
