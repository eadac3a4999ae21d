/** Gemma 1, 2 and 3 (text): scaled embeddings, norm weights stored minus one, gelu; then sandwich norms, softcaps and alternating windows. */
import { z } from 'zod';
import type { Architecture, LayerNormNames } from '../architecture.ts';
import { readRope } from '../rope-config.ts';
import {
  activationOf,
  architectureNames,
  attentionByType,
  type ConfigFile,
  dimension,
  headCount,
  headWidth,
  layerTypes,
  layerTypesOf,
  optionName,
  softcap,
} from './family.ts';
import { everyLayer, LLAMA_TENSORS, LlamaFields, llamaArchitecture, ropePlace } from './llama.ts';

const GemmaFields = LlamaFields.extend({
  head_dim: headWidth.default(256),
  tie_word_embeddings: z.boolean().default(true),
  /** Gemma 2 and 3 read it; Gemma 1 too, where it is there, and hidden_act otherwise. */
  hidden_activation: optionName.nullish(),
});

const Gemma2Fields = GemmaFields.extend({
  num_attention_heads: headCount.default(8),
  num_key_value_heads: headCount.default(4),
  query_pre_attn_scalar: z.number().gt(0).max(1e6).default(256),
  sliding_window: dimension.nullable().default(4096),
  layer_types: layerTypes,
  final_logit_softcapping: softcap.default(30),
  attn_logit_softcapping: softcap.default(50),
});

const Gemma3Fields = Gemma2Fields.extend({
  vocab_size: dimension.default(262_208),
  max_position_embeddings: dimension.default(131_072),
  final_logit_softcapping: softcap.default(null),
  /** Of the layers with a window; rope_theta is the others'. */
  rope_local_base_freq: z.number().gt(1).max(1e15).default(10_000),
  /** Every so many layers one sees all; where layer_types does not say. */
  sliding_window_pattern: z.int().min(1).max(1024).default(6),
});

const SANDWICH: LayerNormNames = {
  attention: 'input_layernorm',
  mlp: 'pre_feedforward_layernorm',
  outputs: { attention: 'post_attention_layernorm', mlp: 'post_feedforward_layernorm' },
  heads: null,
};

export function gemma(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(GemmaFields, json);
  file.allowOnly(json as object, { mlp_bias: false, use_bidirectional_attention: false, sliding_window: null });
  // "gelu" in Google's first files means its approximation.
  const named = config.hidden_activation ?? (json as { hidden_act?: string }).hidden_act ?? 'gelu_pytorch_tanh';
  return gemmaArchitecture(config, everyLayer(config, null, file), named === 'gelu' ? 'gelu_new' : named, file);
}

export function gemma2(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(Gemma2Fields, json);
  const types = layerTypesOf(config.layer_types, config.num_hidden_layers, alternate(2), file);
  const rope = readRope(config, ropePlace(config, file), file);
  return {
    ...gemma2Architecture(config, types, () => rope, json as object, file),
    attentionSoftcap: config.attn_logit_softcapping,
  };
}

export function gemma3(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(Gemma3Fields, json);
  // transformers reads this field of Gemma 3 and uses it nowhere.
  file.allowOnly(json as object, { attn_logit_softcapping: null });
  const { rope_parameters: newer, max_position_embeddings: contextTokens } = config;
  if (newer != null && !('full_attention' in newer && 'sliding_attention' in newer))
    throw file.invalid('rope_parameters: needs full_attention and sliding_attention');
  const pattern = alternate(config.sliding_window_pattern);
  const types = layerTypesOf(config.layer_types, config.num_hidden_layers, pattern, file);
  const place = ropePlace(config, file);
  const ropes = {
    full_attention: readRope(config, { ...place, theta: 1_000_000 }, file),
    // transformers 4 scales the full layers alone.
    sliding_attention: readRope(
      { ...config, rope_theta: config.rope_local_base_freq, rope_scaling: null },
      { ...place, layerType: 'sliding_attention' },
      file,
    ),
  };
  const architecture = gemma2Architecture(config, types, (type) => ropes[type], json as object, file);
  const heads = { query: 'self_attn.q_norm', key: 'self_attn.k_norm' };
  return {
    ...architecture,
    contextTokens,
    queryKeyNorm: 'per-head',
    tensors: { ...architecture.tensors, norms: { ...SANDWICH, heads } },
  };
}

const VisionFields = z.object({ architectures: architectureNames, text_config: z.record(z.string(), z.unknown()) });

/** Gemma 3 of 4B and more: the same text model beside one for images, which is not loaded; prompts are text. */
export function gemma3Vision(json: unknown, file: ConfigFile): Architecture {
  const { architectures, text_config: text } = file.parse(VisionFields, json);
  const { tensors, ...architecture } = gemma3(text, file);
  const inside = (name: string) => `language_model.${name}`;
  return {
    ...architecture,
    architecture: architectures?.[0] ?? 'Gemma3ForConditionalGeneration',
    tensors: {
      ...tensors,
      embedding: inside(tensors.embedding),
      layers: inside(tensors.layers),
      finalNorm: inside(tensors.finalNorm!),
      head: inside(tensors.head),
    },
  };
}

/** The last of every `period` layers sees all, the others a window. */
function alternate(period: number) {
  return (index: number) => ((index + 1) % period === 0 ? 'full_attention' : 'sliding_attention');
}

function gemma2Architecture(
  config: z.infer<typeof Gemma2Fields>,
  types: Parameters<typeof attentionByType>[0],
  rope: Parameters<typeof attentionByType>[2],
  json: object,
  file: ConfigFile,
): Architecture {
  file.allowOnly(json, { mlp_bias: false, use_bidirectional_attention: false });
  const layerAttention = attentionByType(types, config.sliding_window, rope, file);
  const activation = config.hidden_activation ?? 'gelu_pytorch_tanh';
  const architecture = gemmaArchitecture(config, layerAttention, activation, file);
  return {
    ...architecture,
    placement: 'sandwich',
    attentionScale: config.query_pre_attn_scalar ** -0.5,
    logitSoftcap: config.final_logit_softcapping,
    tensors: { ...architecture.tensors, norms: SANDWICH },
  };
}

function gemmaArchitecture(
  config: z.infer<typeof GemmaFields>,
  layerAttention: Architecture['layerAttention'],
  activation: string,
  file: ConfigFile,
): Architecture {
  return {
    ...llamaArchitecture({ ...config, hidden_act: 'gelu_new' }, layerAttention, file),
    norm: { kind: 'rms', eps: config.rms_norm_eps, weightOffset: 1 },
    activation: activationOf('hidden_activation', activation, file),
    embeddingScale: Math.fround(Math.sqrt(config.hidden_size)),
    tensors: LLAMA_TENSORS,
  };
}
