/** Rope config: rotary options as config.json spells them, checked: rope_theta and rope_scaling of transformers 4, rope_parameters of transformers 5. */
import { z } from 'zod';
import type { ConfigFile, LayerType } from './families/family.ts';
import type { RopeOptions, RopeScaling } from './rope.ts';

const theta = z.number().gt(1).max(1e15);
/** From 2: a logarithm of it divides. */
const tokens = z.int().min(2).max(1_000_000_000);
const share = z.number().gt(0).max(1);

/** To be extended by a family's schema. */
export const ROPE_FIELDS = {
  rope_theta: theta.nullish(),
  rope_scaling: z.record(z.string().max(100), z.unknown()).nullish(),
  /** May hold one set of parameters for each of layer_types. */
  rope_parameters: z.record(z.string().max(100), z.unknown()).nullish(),
  partial_rotary_factor: share.nullish(),
  original_max_position_embeddings: tokens.nullish(),
};
type RopeFields = z.infer<z.ZodObject<typeof ROPE_FIELDS>>;

const factor = z.number().min(1).max(1_000_000);
const positive = z.number().gt(0).max(1_000_000);
/** One a rotating pair of channels, so at most half of the widest head. */
const factors = z.array(positive).max(512);

/** Every parameter of every type; a type ignores the others', as in transformers. An unknown one is refused. */
const Parameters = z.strictObject({
  rope_type: z.string().max(100).nullish(),
  /** rope_type's older name. */
  type: z.string().max(100).nullish(),
  rope_theta: theta.nullish(),
  partial_rotary_factor: share.nullish(),
  factor: factor.nullish(),
  original_max_position_embeddings: tokens.nullish(),
  attention_factor: positive.nullish(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  mscale: z.number().min(0).max(1000).nullish(),
  mscale_all_dim: z.number().min(0).max(1000).nullish(),
  truncate: z.boolean().nullish(),
  short_factor: factors.nullish(),
  long_factor: factors.nullish(),
  low_freq_factor: positive.nullish(),
  high_freq_factor: positive.nullish(),
  /** A note of YaRN's authors. */
  finetuned: z.boolean().nullish(),
});
type Parameters = z.infer<typeof Parameters>;

export interface RopePlace {
  headDim: number;
  maxPositions: number;
  /** Where config.json gives none. */
  theta: number;
  layerType: LayerType;
  /** Whether a head may rotate in part. */
  partial: 'refused' | 'allowed';
}

export function readRope(config: RopeFields, place: RopePlace, file: ConfigFile): RopeOptions {
  const parameters = parametersOf(config, place.layerType, file);
  const share = parameters.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  if (share !== 1 && place.partial === 'refused')
    throw file.unsupported('partial_rotary_factor', 'this model type rotates whole heads');
  const rotaryDim = Math.floor(place.headDim * share);
  if (rotaryDim === 0 || rotaryDim % 2 !== 0)
    throw file.invalid(`${rotaryDim} channels of a head would rotate; they must be pairs`);
  const scaling = scalingOf(parameters, config, place.maxPositions, rotaryDim, file);
  return { rotaryDim, theta: parameters.rope_theta ?? config.rope_theta ?? place.theta, scaling };
}

/**
 * Tokens the model may see. max_position_embeddings counts before linear and dynamic scaling (as in vLLM); with yarn it is often left
 * as it was before.
 */
export function contextTokensOf({ scaling }: RopeOptions, maxPositions: number): number {
  switch (scaling.kind) {
    case 'linear':
    case 'dynamic':
      return Math.floor(maxPositions * scaling.factor);
    case 'yarn':
      return Math.max(maxPositions, Math.floor(scaling.originalTokens * scaling.factor));
    case 'none':
    case 'llama3':
    case 'longrope':
      return maxPositions;
    default:
      return scaling satisfies never;
  }
}

function parametersOf(config: RopeFields, layerType: LayerType, file: ConfigFile): Parameters {
  const { rope_scaling: older, rope_parameters: newer } = config;
  // transformers 5 takes rope_scaling where both are there.
  const chosen = older != null && Object.keys(older).length > 0 ? older : (newer ?? {});
  const nested = 'full_attention' in chosen || 'sliding_attention' in chosen;
  const parsed = Parameters.safeParse(nested ? chosen[layerType] : chosen);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue?.code === 'unrecognized_keys')
    throw file.unsupported(`rope parameter ${JSON.stringify(issue.keys[0])}`, 'it is not known');
  throw file.invalid(`rope parameters${nested ? ` of ${layerType}` : ''}: ${issue?.path.join('.')}: ${issue?.message}`);
}

function scalingOf(
  parameters: Parameters,
  config: RopeFields,
  maxPositions: number,
  rotaryDim: number,
  file: ConfigFile,
): RopeScaling {
  const type = parameters.rope_type ?? parameters.type ?? 'default';
  const required = <Name extends keyof Parameters>(name: Name): NonNullable<Parameters[Name]> => {
    const value = parameters[name];
    if (value == null) throw file.invalid(`rope type "${type}" needs ${name}`);
    return value;
  };
  // Phi-3 keeps it outside the parameters, and there it wins.
  const originalTokens =
    config.original_max_position_embeddings ?? parameters.original_max_position_embeddings ?? maxPositions;
  switch (type) {
    case 'default':
      return { kind: 'none' };
    case 'linear':
      return { kind: 'linear', factor: required('factor') };
    case 'dynamic':
      if (rotaryDim === 2) throw file.invalid('rope type "dynamic" needs more than two rotating channels');
      return { kind: 'dynamic', factor: required('factor'), originalTokens: maxPositions };
    case 'llama3': {
      const [lowFrequency, highFrequency] = [required('low_freq_factor'), required('high_freq_factor')];
      if (highFrequency <= lowFrequency) throw file.invalid('high_freq_factor must be above low_freq_factor');
      return { kind: 'llama3', factor: required('factor'), lowFrequency, highFrequency, originalTokens };
    }
    case 'yarn':
      return yarnOf(parameters, originalTokens, maxPositions);
    case 'longrope':
    case 'su': {
      const [shortFactors, longFactors] = [required('short_factor'), required('long_factor')];
      for (const list of [shortFactors, longFactors])
        if (list.length !== rotaryDim / 2)
          throw file.invalid(`short_factor and long_factor need ${rotaryDim / 2} entries, one has ${list.length}`);
      const factor = parameters.factor ?? maxPositions / originalTokens;
      const stretch = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalTokens));
      const attentionFactor = parameters.attention_factor ?? stretch;
      return { kind: 'longrope', shortFactors, longFactors, originalTokens, attentionFactor };
    }
    default:
      throw file.unsupported(
        `rope type ${JSON.stringify(type)}`,
        'known are default, linear, dynamic, llama3, yarn, longrope',
      );
  }
}

function yarnOf(parameters: Parameters, originalTokens: number, maxPositions: number): RopeScaling {
  const factor = parameters.factor ?? maxPositions / originalTokens;
  const mscale = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const inferred =
    parameters.mscale && parameters.mscale_all_dim
      ? mscale(parameters.mscale) / mscale(parameters.mscale_all_dim)
      : mscale(1);
  return {
    kind: 'yarn',
    factor,
    originalTokens,
    betaFast: parameters.beta_fast ?? 32,
    betaSlow: parameters.beta_slow ?? 1,
    truncate: parameters.truncate ?? true,
    attentionFactor: parameters.attention_factor ?? inferred,
  };
}
