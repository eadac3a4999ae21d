/** GPTQ config: how a checkpoint says that, and how, its linears are quantized. */
import { z } from 'zod';
import { NibbleError } from '../errors.ts';
import { type FileSet, readJson } from './file-set.ts';

/** config.json of the largest published models is about 100 kB (per-layer lists). */
const MAX_CONFIG_BYTES = 4_000_000;

export interface GptqConfig {
  bits: 2 | 3 | 4 | 8;
  /** Input channels per scale; null: one group over all of them. */
  groupSize: number | null;
  /** Columns were quantized by falling activation, so g_idx is not monotonic. */
  actOrder: boolean;
  symmetric: boolean;
  /** What to add to a stored zero point: 1 for checkpoint_format "gptq", 0 for "gptq_v2". */
  zeroOffset: 0 | 1;
  /** A module whose name contains one of these keeps plain weights. */
  plainModules: readonly string[];
}

/** Only what is read; writers add many more fields. Values of another type are errors, not defaults. */
const QuantizationConfig = z.object({
  quant_method: z.string().max(100).nullish(),
  bits: z.int(),
  /** Above any published in_features; -1: one group. */
  group_size: z.union([z.literal(-1), z.int().min(1).max(1_000_000)]),
  desc_act: z.boolean().nullish(),
  sym: z.boolean().nullish(),
  zero_point: z.boolean().nullish(),
  version: z.string().max(100).nullish(),
  checkpoint_format: z.string().max(100).nullish(),
  /** Older GPTQModel's name of checkpoint_format. */
  format: z.string().max(100).nullish(),
  pack_dtype: z.string().max(100).nullish(),
  /** GPTQModel's overrides per module. */
  dynamic: z.record(z.string(), z.unknown()).nullish(),
  /** As many as a model has linears. */
  modules_to_not_convert: z.array(z.string().min(1).max(1024)).max(100_000).nullish(),
});

/**
 * Reads in text-generation-inference's order: config.json's quantization_config, then quantize_config.json; null when there is neither.
 * Unlike it, checkpoint_format is honoured: it loads "gptq_v2" with every zero point off by one.
 */
export async function readQuantizationConfig(files: FileSet): Promise<GptqConfig | null> {
  const config = await readJson(files, 'config.json', MAX_CONFIG_BYTES);
  const inner = isObject(config) && Object.hasOwn(config, 'quantization_config') ? config.quantization_config : null;
  const older = await readJson(files, 'quantize_config.json', MAX_CONFIG_BYTES);
  // Files of the oldest writers have no quant_method inside config.json; the other file then decides.
  if (inner != null && (hasMethod(inner) || older === null))
    return parseQuantizationConfig(inner, `${files.name}/config.json`, 'required');
  return older === null ? null : parseQuantizationConfig(older, `${files.name}/quantize_config.json`, 'optional');
}

/** Whether the module's weights are in GPTQ's layout. */
export function isConverted(prefix: string, config: GptqConfig): boolean {
  return !config.plainModules.some((part) => prefix.includes(part));
}

function parseQuantizationConfig(json: unknown, file: string, method: 'required' | 'optional'): GptqConfig {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  const unsupported = (option: string, reason: string) =>
    new NibbleError({ code: 'model_unsupported', file, option, reason });
  if (!isObject(json)) throw invalid('the quantization config is not an object');
  // The method first: other methods have other fields, and their name says more than a missing "bits".
  if (!hasMethod(json) && method === 'required') throw invalid('quantization_config has no "quant_method"');
  const isAwq = json.version === 'GEMM' || json.zero_point === true;
  const quantMethod = hasMethod(json) ? json.quant_method : isAwq ? 'awq' : 'gptq';
  if (quantMethod !== 'gptq')
    throw unsupported('quant_method', `"${quantMethod.slice(0, 100)}" cannot be loaded; "gptq" can`);

  const parsed = QuantizationConfig.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(`the quantization config's ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const { bits, group_size: groupSize, dynamic, pack_dtype: packDtype } = parsed.data;
  if (bits !== 2 && bits !== 3 && bits !== 4 && bits !== 8)
    throw unsupported('bits', `${bits} cannot be loaded; 2, 3, 4 and 8 can`);
  if (dynamic != null && Object.keys(dynamic).length > 0)
    throw unsupported('dynamic', 'settings that differ between modules cannot be loaded');
  if (packDtype != null && packDtype !== 'int32')
    throw unsupported('pack_dtype', `"${packDtype}" cannot be loaded; "int32" can`);
  const format = parsed.data.checkpoint_format ?? parsed.data.format ?? 'gptq';
  if (format !== 'gptq' && format !== 'gptq_v2')
    throw unsupported('checkpoint_format', `"${format}" cannot be loaded; "gptq" and "gptq_v2" can`);
  return {
    bits,
    groupSize: groupSize === -1 ? null : groupSize,
    actOrder: parsed.data.desc_act ?? false,
    symmetric: parsed.data.sym ?? false,
    zeroOffset: format === 'gptq' ? 1 : 0,
    plainModules: parsed.data.modules_to_not_convert ?? [],
  };
}

function hasMethod(value: unknown): value is Record<string, unknown> & { quant_method: string } {
  return isObject(value) && Object.hasOwn(value, 'quant_method') && typeof value.quant_method === 'string';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
