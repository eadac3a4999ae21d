/** ModelWriter: a quantized model's directory: weights in one file or in shards, its configs, and the files that come along. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckpointFiles } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import type { SafetensorsFile } from '../../core/formats/safetensors.ts';
import { DTYPE_BITS } from '../../core/formats/safetensors-header.ts';
import type { PlannedTensor } from '../../core/formats/safetensors-writer.ts';
import { writeSafetensors } from '../safetensors-file.ts';
import type { LocalModel } from '../store/local.ts';
import type { Journal } from './journal.ts';
import type { LinearReport } from './quantize-model.ts';
import type { SolverOptions } from './solver-options.ts';

/** What others split at too. */
export const MAX_SHARD_BYTES = 10e9;

export interface QuantizedModel {
  files: LocalModel;
  checkpoint: CheckpointFiles;
  journal: Journal;
  layers: number;
  reports: readonly LinearReport[];
  options: SolverOptions;
  sequence: 'whole-layer' | 'by-input';
  maxShardBytes: number;
}

interface OutputTensor extends PlannedTensor {
  /** null: copied from the model. */
  layer: number | null;
}

/** Into an empty directory. Resolves to the bytes of all weight files. */
export async function writeModel(
  model: QuantizedModel,
  directory: string,
  onTensor: (done: number, total: number) => void,
): Promise<number> {
  const settings = settingsOf(model);
  await copyCompanions(model, directory);
  const config = (await readJson(model.files, 'config.json', MAX_CONFIG_BYTES, 'required')) as Record<string, unknown>;
  await writeJson(join(directory, 'config.json'), { ...config, quantization_config: settings });
  await writeJson(join(directory, 'quantize_config.json'), settings);
  const shards = shardsOf(await tensorsOf(model), model.maxShardBytes);
  const total = shards.reduce((sum, { length }) => sum + length, 0);
  const metadata = metadataOf(settings);
  let [bytes, done] = [0, 0];
  const weightMap: Record<string, string> = {};
  let open: { layer: number; file: SafetensorsFile } | null = null;
  for (const [index, tensors] of shards.entries()) {
    const name = shards.length === 1 ? 'model.safetensors' : shardName(index, shards.length);
    for (const tensor of tensors) weightMap[tensor.name] = name;
    bytes += await writeSafetensors(
      join(directory, name),
      tensors,
      async (tensor) => {
        if (tensor.layer === null) return model.checkpoint.read(tensor.name);
        if (open?.layer !== tensor.layer)
          open = { layer: tensor.layer, file: await model.journal.openLayer(tensor.layer) };
        return open.file.read(tensor.name);
      },
      () => onTensor(++done, total),
      metadata,
    );
  }
  if (shards.length > 1) {
    const totalSize = shards.flat().reduce((sum, tensor) => sum + bytesOf(tensor), 0);
    await writeJson(join(directory, 'model.safetensors.index.json'), {
      metadata: { total_size: totalSize },
      weight_map: weightMap,
    });
  }
  return bytes;
}

function shardName(index: number, count: number): string {
  return `model-${String(index + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.safetensors`;
}

/** The model's tensors, each packed linear's in the place of its weight. */
async function tensorsOf({ checkpoint, journal, layers }: QuantizedModel): Promise<OutputTensor[]> {
  const packed = new Map<string, OutputTensor[]>();
  for (let layer = 0; layer < layers; layer++)
    for (const { name, dtype, shape } of (await journal.openLayer(layer)).tensors.values()) {
      const weight = `${name.slice(0, name.lastIndexOf('.'))}.weight`;
      packed.set(weight, [...(packed.get(weight) ?? []), { name, dtype, shape, layer }]);
    }
  return [...checkpoint.tensors.values()].flatMap(
    ({ name, dtype, shape }) => packed.get(name) ?? [{ name, dtype, shape, layer: null }],
  );
}

/** Filled in order; a linear's tensors may fall into two. */
function shardsOf(tensors: readonly OutputTensor[], maxBytes: number): OutputTensor[][] {
  const shards: OutputTensor[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + bytesOf(tensor) > maxBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += bytesOf(tensor);
  }
  return shards;
}

function bytesOf({ dtype, shape }: PlannedTensor): number {
  return (shape.reduce((product, size) => product * size, 1) * DTYPE_BITS[dtype]) / 8;
}

/** AutoGPTQ's and transformers' names. Linears that stay plain are named for both of their readers. */
function settingsOf({ options, sequence, reports }: QuantizedModel): Record<string, unknown> {
  const plain = reports.filter(({ kind }) => kind === 'plain').map(({ name }) => name);
  return {
    bits: options.bits,
    group_size: options.groupSize ?? -1,
    damp_percent: options.damping,
    desc_act: options.columnOrder === 'falling-activation',
    static_groups: options.groups === 'static',
    sym: options.zeros === 'symmetric',
    true_sequential: sequence === 'by-input',
    quant_method: 'gptq',
    checkpoint_format: 'gptq',
    model_name_or_path: null,
    model_file_base_name: 'model',
    ...(plain.length === 0
      ? {}
      : {
          modules_to_not_convert: plain,
          dynamic: Object.fromEntries(plain.map((name) => [`-:^${name.replaceAll('.', '\\.')}$`, {}])),
        }),
    meta: { quantizer: ['nibble:0.1.0'] },
  };
}

/** What a lone file needs to be read without its configs. */
export function metadataOf(settings: Record<string, unknown>): Record<string, string> {
  const own = ['bits', 'group_size', 'desc_act', 'sym', 'checkpoint_format', 'damp_percent'];
  return {
    format: 'pt',
    quantized: 'gptq',
    origin: 'nibble',
    ...Object.fromEntries(own.map((name) => [name, String(settings[name])])),
  };
}

/** Weights in other forms, and configs that are written anew. */
const LEFT_BEHIND = /\.(safetensors|bin|pt|pth|gguf|onnx|index\.json)$|^(quantize_config|quant_config|config)\.json$/;

async function copyCompanions({ files }: QuantizedModel, directory: string): Promise<void> {
  for (const name of await files.list())
    if (!LEFT_BEHIND.test(name)) await copyFile(join(files.directory, name), join(directory, name));
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}
