/** GPTQ config: how a checkpoint says how its linears are quantized. */
import { z } from 'zod';
import { NibbleError } from '../errors.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import { tensorName } from './tensor-reader.ts';

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

/** Above any published in_features; −1: one group. */
const groupSize = z.union([z.literal(-1), z.int().min(1).max(1_000_000)]);

/** Only what is read; writers add many more fields. Values of another type are errors, not defaults. */
const GptqConfigJson = z.object({
  bits: z.int(),
  group_size: groupSize,
  desc_act: z.boolean().nullish(),
  sym: z.boolean().nullish(),
  checkpoint_format: z.string().max(100).nullish(),
  /** Older GPTQModel's name of checkpoint_format. */
  format: z.string().max(100).nullish(),
  pack_dtype: z.string().max(100).nullish(),
  /** GPTQModel's overrides per module: a regular expression, after "-:" for modules that stay plain. */
  dynamic: z.record(z.string(), z.unknown()).nullish(),
  /** As many as a model has linears. */
  modules_to_not_convert: z.array(z.string().min(1).max(1024)).max(100_000).nullish(),
});

/** `json` is the object with bits and group_size, whichever file it was in; `file` names that file in errors. */
export function parseGptqConfig(json: unknown, file: string): GptqConfig {
  const unsupported = (option: string, reason: string) =>
    new NibbleError({ code: 'model_unsupported', file, option, reason });
  const parsed = GptqConfigJson.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const rule = `the quantization config's ${issue?.path.join('.')}: ${issue?.message}`;
    throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  }
  const { bits, group_size: groupSize, dynamic, pack_dtype: packDtype } = parsed.data;
  if (bits !== 2 && bits !== 3 && bits !== 4 && bits !== 8)
    throw unsupported('bits', `${bits} cannot be loaded; 2, 3, 4 and 8 can`);
  // Modules left plain are seen by their tensors; expressions from a file are never run.
  if (dynamic != null && !Object.keys(dynamic).every((module) => module.startsWith('-:')))
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

/** Names under which writers put a parameter into a file's `__metadata__`, the plain one first. */
const METADATA_NAMES = {
  bits: ['bits', 'gptq_bits', 'w_bit'],
  group_size: ['group_size', 'groupsize', 'gptq_group_size', 'gptq_groupsize', 'q_group_size'],
  desc_act: ['desc_act', 'gptq_desc_act', 'act_order'],
  sym: ['sym', 'gptq_sym'],
  checkpoint_format: ['checkpoint_format', 'gptq_checkpoint_format'],
} as const;
type Parameter = keyof typeof METADATA_NAMES;
export type GptqParameters = Partial<Record<Parameter, number | boolean | string>>;

/**
 * The parameters of packed weights that no config file describes: `given` ones first, then those of the header's `__metadata__`,
 * then text-generation-inference's defaults (4 bits, one group, asymmetric, version 1).
 */
export function gptqConfigOfMetadata(
  metadata: Readonly<Record<string, string>>,
  file: string,
  given: GptqParameters = {},
): GptqConfig {
  const read = (parameter: Parameter): unknown => {
    if (given[parameter] !== undefined) return given[parameter];
    const text = METADATA_NAMES[parameter].map((name) => metadata[name]).find((value) => value !== undefined);
    if (text === undefined) return undefined;
    if (parameter === 'checkpoint_format') return text;
    if (/^(true|false)$/i.test(text)) return text.toLowerCase() === 'true';
    const number = Number(text);
    return parameter === 'sym' || parameter === 'desc_act'
      ? number === 0 || number === 1
        ? number === 1
        : text
      : number;
  };
  return parseGptqConfig(
    {
      bits: read('bits') ?? 4,
      group_size: read('group_size') ?? -1,
      desc_act: read('desc_act'),
      sym: read('sym'),
      checkpoint_format: read('checkpoint_format'),
    },
    file,
  );
}

/**
 * Whether the module's weights are in GPTQ's layout: not when the config leaves it out, nor when there is a plain weight and no packed one,
 * as for what GPTQModel's `dynamic` leaves out.
 */
export function isConverted(checkpoint: CheckpointFiles, prefix: string, config: GptqConfig): boolean {
  if (config.plainModules.some((part) => prefix.includes(part))) return false;
  return checkpoint.has(tensorName(prefix, 'qweight')) || !checkpoint.has(tensorName(prefix, 'weight'));
}
