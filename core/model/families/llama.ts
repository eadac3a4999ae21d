/** Llama 1 to 3.x; and the fields and names that most later families keep. */
import { z } from 'zod';
import type { Architecture, LayerAttention, TensorNames } from '../architecture.ts';
import { contextTokensOf, ROPE_FIELDS, type RopePlace, readRope } from '../rope-config.ts';
import {
  activationOf,
  architectureNames,
  type ConfigFile,
  dimension,
  epsilon,
  headCount,
  headDimOf,
  headWidth,
  layerCount,
  optionName,
} from './family.ts';

export const LlamaFields = z.object({
  architectures: architectureNames,
  hidden_size: dimension,
  intermediate_size: dimension,
  num_hidden_layers: layerCount,
  num_attention_heads: headCount,
  num_key_value_heads: headCount.nullish(),
  head_dim: headWidth.nullish(),
  vocab_size: dimension,
  max_position_embeddings: dimension,
  rms_norm_eps: epsilon.default(1e-6),
  hidden_act: optionName.default('silu'),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  sliding_window: z.int().nullish(),
  ...ROPE_FIELDS,
});
export type LlamaFields = z.infer<typeof LlamaFields>;

export const LLAMA_TENSORS: TensorNames = {
  embedding: 'model.embed_tokens',
  positions: null,
  projection: null,
  layers: 'model.layers.',
  norms: { attention: 'input_layernorm', mlp: 'post_attention_layernorm', outputs: null, heads: null },
  queryKeyValue: { kind: 'separate', query: 'self_attn.q_proj', key: 'self_attn.k_proj', value: 'self_attn.v_proj' },
  attentionOutput: 'self_attn.o_proj',
  mlp: { kind: 'gated', gate: 'mlp.gate_proj', up: 'mlp.up_proj', down: 'mlp.down_proj' },
  finalNorm: 'model.norm',
  head: 'lm_head',
};

export function llama(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(LlamaFields, json);
  const { sliding_window: window, max_position_embeddings: maxPositions } = config;
  if (window != null && window < maxPositions) throw file.unsupported('sliding_window', 'Llama has none');
  return llamaArchitecture(config, everyLayer(config, null, file), file);
}

/** What Llama's fields say, with attention of each layer as given; families change what differs. */
export function llamaArchitecture(
  config: LlamaFields,
  layerAttention: readonly LayerAttention[],
  file: ConfigFile,
): Architecture {
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0)
    throw file.invalid(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  const { headDim } = ropePlace(config, file);
  const { attention_bias: attentionBias, mlp_bias: mlpBias, max_position_embeddings: maxPositions } = config;
  const rope = layerAttention.find((layer) => layer.rope !== null)?.rope;
  return {
    architecture: config.architectures?.[0] ?? 'LlamaForCausalLM',
    hidden: config.hidden_size,
    embeddingWidth: config.hidden_size,
    intermediate: config.intermediate_size,
    layers: config.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    vocabSize: config.vocab_size,
    contextTokens: rope == null ? maxPositions : contextTokensOf(rope, maxPositions),
    norm: { kind: 'rms', eps: config.rms_norm_eps, weightOffset: 0 },
    placement: 'pre',
    queryKeyNorm: 'none',
    activation: activationOf('hidden_act', config.hidden_act, file),
    bias: { queryKeyValue: attentionBias, attentionOutput: attentionBias, mlp: mlpBias },
    embeddingScale: 1,
    learnedPositions: null,
    attentionScale: 1 / Math.sqrt(headDim),
    attentionSoftcap: null,
    alibiSlopes: null,
    layerAttention,
    logitSoftcap: null,
    tiedHead: config.tie_word_embeddings,
    tensors: LLAMA_TENSORS,
  };
}

/** The same window and rope in every layer. */
export function everyLayer(config: LlamaFields, window: number | null, file: ConfigFile): LayerAttention[] {
  const layer = { window, rope: readRope(config, ropePlace(config, file), file) };
  return Array.from({ length: config.num_hidden_layers }, () => layer);
}

export function ropePlace(config: LlamaFields, file: ConfigFile): RopePlace {
  return {
    headDim: config.head_dim ?? headDimOf(config.hidden_size, config.num_attention_heads, file),
    maxPositions: config.max_position_embeddings,
    theta: 10_000,
    layerType: 'full_attention',
    partial: 'refused',
  };
}
