/** Quantization config: which file says how a checkpoint is quantized, and by which method. */
import { z } from 'zod';
import { NibbleError } from '../errors.ts';
import { type FileSet, readJson } from './file-set.ts';
import { type GptqConfig, parseGptqConfig } from './gptq-config.ts';
import { type BitsandbytesMethod, INT8_THRESHOLD } from './quantize-linear.ts';

/** config.json of the largest published models is about 100 kB (per-layer lists). */
export const MAX_CONFIG_BYTES = 4_000_000;

export type CheckpointConfig =
  | { kind: 'gptq'; config: GptqConfig }
  | { kind: 'bitsandbytes-checkpoint'; method: BitsandbytesMethod; threshold: number };

const BitsandbytesConfigJson = z.object({
  load_in_8bit: z.boolean().nullish(),
  load_in_4bit: z.boolean().nullish(),
  llm_int8_threshold: z.number().min(0).nullish(),
  bnb_4bit_quant_type: z.enum(['nf4', 'fp4']).nullish(),
});

/**
 * Reads in text-generation-inference's order: config.json's quantization_config, quantize_config.json, quant_config.json; null when there
 * is none. Unlike it, checkpoint_format is honoured: it loads "gptq_v2" with every zero point off by one.
 */
export async function readQuantizationConfig(files: FileSet): Promise<CheckpointConfig | null> {
  const config = await readJson(files, 'config.json', MAX_CONFIG_BYTES);
  const inner = isObject(config) && Object.hasOwn(config, 'quantization_config') ? config.quantization_config : null;
  if (inner != null && methodOf(inner) !== null)
    return parseConfig(inner, `${files.name}/config.json`, methodOf(inner));
  // Files of the oldest writers have no quant_method inside config.json; another file then decides.
  const older = await readJson(files, 'quantize_config.json', MAX_CONFIG_BYTES);
  if (older !== null) return parseConfig(older, `${files.name}/quantize_config.json`, methodOf(older));
  const oldest = await readJson(files, 'quant_config.json', MAX_CONFIG_BYTES);
  if (oldest !== null) {
    const named = isObject(oldest) ? { ...oldest, bits: oldest.w_bit, group_size: oldest.q_group_size } : oldest;
    return parseConfig(named, `${files.name}/quant_config.json`, methodOf(oldest));
  }
  if (inner == null) return null;
  const file = `${files.name}/config.json`;
  throw new NibbleError({
    code: 'file_invalid',
    file,
    tensor: null,
    rule: 'quantization_config has no "quant_method"',
  });
}

/** The method first: other methods have other fields, and their name says more than a missing "bits". */
function parseConfig(json: unknown, file: string, method: string | null): CheckpointConfig {
  if (!isObject(json))
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: null,
      rule: 'the quantization config is not an object',
    });
  const isAwq = json.version === 'GEMM' || json.zero_point === true;
  const known = method ?? (isAwq ? 'awq' : 'gptq');
  if (known === 'gptq') return { kind: 'gptq', config: parseGptqConfig(json, file) };
  if (known === 'bitsandbytes') return parseBitsandbytes(json, file);
  throw new NibbleError({
    code: 'model_unsupported',
    file,
    option: 'quant_method',
    reason: `"${known.slice(0, 100)}" cannot be loaded; "gptq" and "bitsandbytes" can`,
  });
}

function parseBitsandbytes(json: unknown, file: string): CheckpointConfig {
  const parsed = BitsandbytesConfigJson.safeParse(json);
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(`the quantization config's ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const config = parsed.data;
  if ((config.load_in_8bit ?? false) === (config.load_in_4bit ?? false))
    throw invalid('the quantization config needs exactly one of load_in_8bit and load_in_4bit');
  return {
    kind: 'bitsandbytes-checkpoint',
    // transformers' default where the type is not said is fp4.
    method: config.load_in_8bit ? 'int8' : (config.bnb_4bit_quant_type ?? 'fp4'),
    threshold: config.llm_int8_threshold ?? INT8_THRESHOLD,
  };
}

function methodOf(value: unknown): string | null {
  if (!isObject(value)) return null;
  if (Object.hasOwn(value, 'quant_method') && typeof value.quant_method === 'string') return value.quant_method;
  // transformers of 2023 wrote bitsandbytes' config without its method.
  return value.load_in_8bit === true || value.load_in_4bit === true ? 'bitsandbytes' : null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
