/** LayerSource: where a layer's weights come from: the model, and over it the linears that are quantized already. */
import { readFile } from 'node:fs/promises';
import { MemorySource } from '../../core/formats/byte-source.ts';
import { type CheckpointFiles, openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import type { GptqConfig } from '../../core/formats/gptq-config.ts';
import type { Quantization } from '../../core/formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import { openSafetensors } from '../../core/formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../../core/model/config.ts';
import { type LocalModel, openLocalModel } from '../store/local.ts';

/** As values, so that a thread can open it for itself. */
export interface LayerSource {
  model: string;
  /** Quantized linears that stand before the model's own: a file of their tensors; null: none. */
  packed: { file: string; config: GptqConfig } | null;
}

export interface OpenSource {
  config: ModelConfig;
  checkpoint: CheckpointFiles;
  quantization: Quantization;
  files: LocalModel;
}

/** The caller closes `files`. */
export async function openSource({ model, packed }: LayerSource): Promise<OpenSource> {
  const files = await openLocalModel(model);
  const configJson = await readJson(files, 'config.json', MAX_CONFIG_BYTES, 'required');
  const config = parseModelConfig(configJson, null, `${model}/config.json`);
  const checkpoint = await openCheckpoint(files);
  if (packed === null) return { config, checkpoint, quantization: { kind: 'none' }, files };
  const over = await openSafetensors(new MemorySource(packed.file, new Uint8Array(await readFile(packed.file))));
  return {
    config,
    checkpoint: {
      name: checkpoint.name,
      metadata: checkpoint.metadata,
      tensors: new Map([...checkpoint.tensors, ...over.tensors]),
      has: (name) => over.tensors.has(name) || checkpoint.has(name),
      read: (name) => (over.tensors.has(name) ? over.read(name) : checkpoint.read(name)),
      readRange: (name, offset, length) => (over.tensors.has(name) ? over : checkpoint).readRange(name, offset, length),
    },
    quantization: { kind: 'gptq', config: packed.config },
    files,
  };
}
