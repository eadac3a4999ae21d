/** Inspect: what a checkpoint holds, without loading its weights. */

import { readQuantState } from '../../core/formats/bitsandbytes.ts';
import { type CheckpointFiles, openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { gptqConfigOfMetadata } from '../../core/formats/gptq-config.ts';
import { readQuantization } from '../../core/formats/quantization.ts';
import { MAX_CONFIG_BYTES } from '../../core/formats/quantization-config.ts';
import { countParameters, type QuantizedModule, quantizedModules } from '../../core/formats/quantized-modules.ts';
import type { Command, Options } from '../command-line.ts';
import { JSON_FLAG, STORE_FLAGS } from '../model-flags.ts';
import { openModel } from '../store/open-model.ts';
import type { StoredModel } from '../store/stored-model.ts';

export const inspect: Command = {
  name: 'inspect',
  summary: 'tensors, sizes and quantization of a checkpoint',
  positionals: ['MODEL'],
  flags: { ...STORE_FLAGS, json: JSON_FLAG },
  pending: [],
  examples: ['nibble inspect models/demo/gptq-int4', 'nibble inspect model.safetensors --json'],
  run,
};

async function run(options: Options): Promise<void> {
  const files = await openModel(options.positionals[0]!, options);
  try {
    const checkpoint = await openCheckpoint(files);
    const configJson = files.lone === undefined ? await readJson(files, 'config.json', MAX_CONFIG_BYTES) : null;
    const quantization = await describeQuantization(files, checkpoint);
    const tensors = [...checkpoint.tensors].map(([name, { dtype, shape, begin, end }]) => ({
      name,
      dtype,
      shape: [...shape],
      bytes: end - begin,
    }));
    const result = {
      model_type:
        configJson !== null && typeof configJson === 'object' && 'model_type' in configJson
          ? configJson.model_type
          : null,
      parameters: await countParameters(checkpoint, quantization?.bits ?? 0),
      weight_bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
      quantization,
      tensors,
    };
    if (options.on('json')) {
      console.log(JSON.stringify(result));
      return;
    }
    const rows = tensors.map(
      ({ name, dtype, shape, bytes }) =>
        `${name.padEnd(56)} ${dtype.padEnd(5)} ${`[${shape.join(', ')}]`.padEnd(18)} ${bytes}`,
    );
    console.log(
      [
        ...rows,
        '',
        `model type ${result.model_type ?? 'unknown'}, ${result.parameters} parameters, ${result.weight_bytes} bytes, quantization ${sentenceOf(quantization)}`,
      ].join('\n'),
    );
  } finally {
    await files.close();
  }
}

/** Field names are those of the checkpoints' own configs; null where a method has no such thing or the file does not say. */
interface QuantizationSummary {
  method: 'gptq' | 'bitsandbytes';
  bits: number;
  /** Values per scale: −1 one group over all inputs of an output. */
  group_size: number;
  desc_act: boolean | null;
  sym: boolean | null;
  checkpoint_format: string | null;
  /** bitsandbytes' code, and whether its absolute maxima are quantized too. */
  quant_type?: 'int8' | 'nf4' | 'fp4';
  double_quant?: boolean;
}

async function describeQuantization(
  files: StoredModel,
  checkpoint: CheckpointFiles,
): Promise<QuantizationSummary | null> {
  const modules = quantizedModules(checkpoint);
  const first = modules.find(({ kind }) => kind !== 'gptq');
  if (first !== undefined) return describeBitsandbytes(checkpoint, first);
  if (files.lone !== undefined && modules.length === 0) return null;
  const quantization =
    files.lone === undefined
      ? await readQuantization(files, null, checkpoint)
      : ({ kind: 'gptq', config: gptqConfigOfMetadata(checkpoint.metadata, files.name) } as const);
  if (quantization.kind !== 'gptq') return null;
  const { bits, groupSize, actOrder, symmetric, zeroOffset } = quantization.config;
  return {
    method: 'gptq',
    bits,
    group_size: groupSize ?? -1,
    desc_act: actOrder,
    sym: symmetric,
    checkpoint_format: zeroOffset === 1 ? 'gptq' : 'gptq_v2',
  };
}

async function describeBitsandbytes(
  checkpoint: CheckpointFiles,
  { prefix, kind }: QuantizedModule,
): Promise<QuantizationSummary> {
  const common = { method: 'bitsandbytes', desc_act: null, sym: null, checkpoint_format: null } as const;
  if (kind === 'int8') return { ...common, bits: 8, group_size: -1, quant_type: 'int8', double_quant: false };
  const { blockSize, quantType, nested } = await readQuantState(checkpoint, prefix);
  return { ...common, bits: 4, group_size: blockSize, quant_type: quantType, double_quant: nested !== null };
}

function sentenceOf(quantization: QuantizationSummary | null): string {
  if (quantization === null) return 'none';
  const { method, bits, group_size: groupSize, quant_type: type } = quantization;
  return `${method}${type === undefined ? '' : ` ${type}`}, ${bits} bits, ${groupSize === -1 ? 'one group' : `groups of ${groupSize}`}`;
}
