/** Family: what a model family's file gives, an Architecture from config.json; and what several of them read alike. */
import { z } from 'zod';
import { NibbleError } from '../../errors.ts';
import type { Architecture, LayerAttention } from '../architecture.ts';
import type { ActivationFunction } from '../backend.ts';
import type { RopeOptions } from '../rope.ts';

/** Throws `model_unsupported` by the option's name, or `file_invalid`. */
export type Family = (json: unknown, file: ConfigFile) => Architecture;

/** Far above any published model; keeps products of two of them below 2^53. */
export const dimension = z.int().min(1).max(4_000_000);
export const headCount = z.int().min(1).max(1024);
export const layerCount = z.int().min(1).max(1024);
/** Of a norm. */
export const epsilon = z.number().gt(0).max(1);
export const softcap = z.number().gt(0).max(1e6).nullable();
const MAX_HEAD_DIM = 1024;
export const headWidth = z.int().min(2).max(MAX_HEAD_DIM);
export const optionName = z.string().max(100);
export const architectureNames = z.array(z.string().max(200)).max(8).optional();
export const layerTypes = z.array(optionName).max(1024).nullish();

/** config.json, as far as errors name it. */
export class ConfigFile {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  parse<Schema extends z.ZodType>(schema: Schema, json: unknown): z.infer<Schema> {
    const parsed = schema.safeParse(json);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    throw this.invalid(`${issue?.path.join('.') || 'config'}: ${issue?.message}`);
  }

  unsupported(option: string, reason: string): NibbleError {
    return new NibbleError({ code: 'model_unsupported', file: this.name, option, reason });
  }

  invalid(rule: string): NibbleError {
    return new NibbleError({ code: 'file_invalid', file: this.name, tensor: null, rule });
  }

  /** Refuses each of these options with another value than the one here; absent or null is right too. */
  allowOnly(json: object, options: Readonly<Record<string, unknown>>): void {
    for (const [option, allowed] of Object.entries(options)) {
      const value = (json as Record<string, unknown>)[option];
      if (value != null && value !== allowed)
        throw this.unsupported(option, `${JSON.stringify(value)} is not supported`);
    }
  }
}

/** gelu_new, gelu_fast and gelu_pytorch_tanh are one formula. */
const ACTIVATIONS: Readonly<Record<string, ActivationFunction>> = {
  relu: 'relu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  silu: 'silu',
  swish: 'silu',
};

/** `option` is config.json's name for it. */
export function activationOf(option: string, value: string, file: ConfigFile): ActivationFunction {
  if (!Object.hasOwn(ACTIVATIONS, value))
    throw file.unsupported(`${option} ${JSON.stringify(value)}`, `known are ${Object.keys(ACTIVATIONS).join(', ')}`);
  return ACTIVATIONS[value]!;
}

export type LayerType = 'full_attention' | 'sliding_attention';

/** config.json's layer_types, checked; `otherwise` says the type of each layer where it has none. */
export function layerTypesOf(
  names: readonly string[] | null | undefined,
  layers: number,
  otherwise: (index: number) => LayerType,
  file: ConfigFile,
): LayerType[] {
  if (names == null) return Array.from({ length: layers }, (_, index) => otherwise(index));
  if (names.length !== layers)
    throw file.invalid(`layer_types has ${names.length} entries, num_hidden_layers is ${layers}`);
  return names.map((name) => {
    if (name === 'full_attention' || name === 'sliding_attention') return name;
    throw file.unsupported(`layer_types ${JSON.stringify(name)}`, 'only full_attention and sliding_attention are');
  });
}

/** Each layer's window and rope by its type. */
export function attentionByType(
  types: readonly LayerType[],
  window: number | null,
  rope: (type: LayerType) => RopeOptions,
  file: ConfigFile,
): LayerAttention[] {
  if (window === null && types.includes('sliding_attention'))
    throw file.invalid('layer_types has "sliding_attention", but sliding_window is not set');
  const ropes = new Map([...new Set(types)].map((type) => [type, rope(type)]));
  return types.map((type) => ({ window: type === 'sliding_attention' ? window : null, rope: ropes.get(type)! }));
}

export function headDimOf(hidden: number, heads: number, file: ConfigFile): number {
  if (hidden % heads !== 0) throw file.invalid(`hidden_size ${hidden} is not a multiple of ${heads} attention heads`);
  if (hidden / heads > MAX_HEAD_DIM)
    throw file.invalid(`a head of ${hidden / heads} channels; ${MAX_HEAD_DIM} at most`);
  return hidden / heads;
}
