/** Quantization: what a checkpoint is and what --quantize makes of it; and the one door to a linear's weight, whatever it is. */
import { NibbleError } from '../errors.ts';
import type { LinearWeight } from '../model/backend.ts';
import { bitsandbytesKindOf, readBnb4Weight, readInt8Weight } from './bitsandbytes.ts';
import { type CheckpointFiles, openCheckpoint } from './checkpoint-index.ts';
import type { FileSet } from './file-set.ts';
import { readGptqWeight } from './gptq.ts';
import { type GptqConfig, gptqConfigOfMetadata, isConverted } from './gptq-config.ts';
import { readGptqScalars } from './gptq-scalars.ts';
import { type LinearShape, plainRows, readBias, readPlainWeight } from './plain.ts';
import { readQuantizationConfig } from './quantization-config.ts';
import { type BitsandbytesMethod, quantizeLinear } from './quantize-linear.ts';
import { tensorName } from './tensor-reader.ts';

export type Quantization =
  | { kind: 'none' }
  | { kind: 'gptq'; config: GptqConfig }
  /** Quantized by bitsandbytes before it was saved; each module's own tensors say whether it was. `threshold` is LLM.int8()'s. */
  | { kind: 'bitsandbytes-checkpoint'; method: BitsandbytesMethod; threshold: number }
  /** Plain weights, quantized while they load. */
  | { kind: 'bitsandbytes'; method: BitsandbytesMethod };

/** TGI's names. */
const FLAG_METHODS: Readonly<Record<string, BitsandbytesMethod>> = {
  bitsandbytes: 'int8',
  'bitsandbytes-nf4': 'nf4',
  'bitsandbytes-fp4': 'fp4',
};

/**
 * What to load: the checkpoint's own quantization, in text-generation-inference's order (the scalar tensors of its old `quantize`, then
 * the config files), checked against --quantize (null: none given). Throws `model_unsupported` where the two cannot both be.
 * `opened` is the checkpoint of `files` where the caller has it open; else it is opened when it is needed.
 */
export async function readQuantization(
  files: FileSet,
  flag: string | null,
  opened: CheckpointFiles | null = null,
): Promise<Quantization> {
  const own = await ownQuantization(files, flag, opened);
  const refused = (reason: string) =>
    new NibbleError({ code: 'model_unsupported', file: files.name, option: `--quantize ${flag}`, reason });
  const method = flag === null ? undefined : FLAG_METHODS[flag];
  switch (own.kind) {
    case 'none':
      if (flag === 'gptq') throw refused('the checkpoint is not GPTQ; its config has no quantization_config');
      return method === undefined ? own : { kind: 'bitsandbytes', method };
    case 'gptq':
      if (flag !== null && flag !== 'gptq') throw refused('the checkpoint is GPTQ and is served as such');
      return own;
    case 'bitsandbytes-checkpoint':
      if (flag !== null && method !== own.method)
        throw refused(`the checkpoint was quantized by bitsandbytes to ${own.method} and is served as such`);
      return own;
    case 'bitsandbytes':
      return own;
    default:
      return own satisfies never;
  }
}

/** The checkpoint's own. `flag` gptq makes GPTQ of packed weights without any config, with what their header says or TGI's defaults. */
async function ownQuantization(
  files: FileSet,
  flag: string | null,
  opened: CheckpointFiles | null,
): Promise<Quantization> {
  const config = await readQuantizationConfig(files);
  if (config?.kind === 'bitsandbytes-checkpoint') return config;
  if (config === null && flag !== null && flag !== 'gptq') return { kind: 'none' };
  const checkpoint = opened ?? (await openCheckpoint(files));
  const scalars = await readGptqScalars(checkpoint, config?.config ?? null);
  if (scalars !== null) return { kind: 'gptq', config: scalars };
  if (config !== null) return config;
  const isPacked = [...checkpoint.tensors.keys()].some((name) => name === 'qweight' || name.endsWith('.qweight'));
  return isPacked ? { kind: 'gptq', config: gptqConfigOfMetadata(checkpoint.metadata, files.name) } : { kind: 'none' };
}

/** The name that cards, answers and tables show; null for plain weights. */
export function quantizationLabel(quantization: Quantization): string | null {
  switch (quantization.kind) {
    case 'none':
      return null;
    case 'gptq':
      return `gptq-int${quantization.config.bits}`;
    case 'bitsandbytes':
    case 'bitsandbytes-checkpoint':
      return quantization.method === 'int8' ? 'bitsandbytes' : `bitsandbytes-${quantization.method}`;
    default:
      return quantization satisfies never;
  }
}

/**
 * The weight of one linear, as it lies in the checkpoint or as it is quantized on load. Embeddings, norms and the head are the
 * caller's: it reads them as plain. Throws `file_invalid` by tensor and rule.
 */
export async function readLinearWeight(
  checkpoint: CheckpointFiles,
  prefix: string,
  quantization: Quantization,
  shape: LinearShape,
): Promise<LinearWeight> {
  const weight = await readWeight(checkpoint, prefix, quantization, shape);
  const invalid = (tensor: string, rule: string) =>
    new NibbleError({ code: 'file_invalid', file: checkpoint.name, tensor, rule });
  if (weight.outFeatures !== shape.outFeatures || weight.inFeatures !== shape.inFeatures)
    throw invalid(
      prefix,
      `is [${weight.outFeatures}, ${weight.inFeatures}], config.json says [${shape.outFeatures}, ${shape.inFeatures}]`,
    );
  if (shape.bias === 'required' && weight.bias === null) throw invalid(tensorName(prefix, 'bias'), 'is missing');
  return weight;
}

async function readWeight(
  checkpoint: CheckpointFiles,
  prefix: string,
  quantization: Quantization,
  shape: LinearShape,
): Promise<LinearWeight> {
  const plain = () => readPlainWeight(checkpoint, prefix, shape);
  switch (quantization.kind) {
    case 'none':
      return plain();
    case 'gptq':
      return isConverted(checkpoint, prefix, quantization.config)
        ? readGptqWeight(checkpoint, prefix, quantization.config)
        : plain();
    case 'bitsandbytes-checkpoint':
      switch (bitsandbytesKindOf(checkpoint, prefix)) {
        case '4bit':
          return readBnb4Weight(checkpoint, prefix);
        case 'int8':
          return readInt8Weight(checkpoint, prefix, quantization.threshold);
        case null:
          return plain();
      }
      break;
    case 'bitsandbytes':
      return quantizeLinear(
        plainRows(checkpoint, prefix, shape),
        await readBias(checkpoint, prefix, shape),
        quantization.method,
      );
    default:
      return quantization satisfies never;
  }
}
