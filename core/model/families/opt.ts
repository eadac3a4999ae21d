/** OPT: learned positions, LayerNorm before each branch (after it in the 350M model, which also has narrower embeddings). */
import { z } from 'zod';
import type { Architecture } from '../architecture.ts';
import {
  activationOf,
  architectureNames,
  type ConfigFile,
  dimension,
  headCount,
  headDimOf,
  layerCount,
  optionName,
} from './family.ts';

const OptFields = z.object({
  architectures: architectureNames,
  hidden_size: dimension,
  ffn_dim: dimension,
  num_hidden_layers: layerCount,
  num_attention_heads: headCount,
  vocab_size: dimension,
  max_position_embeddings: dimension,
  word_embed_proj_dim: dimension.nullish(),
  activation_function: optionName.default('relu'),
  do_layer_norm_before: z.boolean().default(true),
  enable_bias: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(true),
});

/** Rows of the position table that once stood for padding. */
const POSITION_OFFSET = 2;

export function opt(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(OptFields, json);
  file.allowOnly(json as object, { _remove_final_layer_norm: false, layer_norm_elementwise_affine: true });
  const { hidden_size: hidden, num_attention_heads: heads, num_hidden_layers: layers, enable_bias: bias } = config;
  const headDim = headDimOf(hidden, heads, file);
  return {
    architecture: config.architectures?.[0] ?? 'OPTForCausalLM',
    hidden,
    embeddingWidth: config.word_embed_proj_dim ?? hidden,
    intermediate: config.ffn_dim,
    layers,
    heads,
    kvHeads: heads,
    headDim,
    vocabSize: config.vocab_size,
    contextTokens: config.max_position_embeddings,
    // torch's own; the config has no field for it.
    norm: { kind: 'layer', eps: 1e-5 },
    placement: config.do_layer_norm_before ? 'pre' : 'post',
    queryKeyNorm: 'none',
    activation: activationOf('activation_function', config.activation_function, file),
    bias: { queryKeyValue: bias, attentionOutput: bias, mlp: bias },
    embeddingScale: 1,
    learnedPositions: { entries: config.max_position_embeddings + POSITION_OFFSET, offset: POSITION_OFFSET },
    attentionScale: 1 / Math.sqrt(headDim),
    attentionSoftcap: null,
    alibiSlopes: null,
    layerAttention: Array.from({ length: layers }, () => ({ window: null, rope: null })),
    logitSoftcap: null,
    tiedHead: config.tie_word_embeddings,
    tensors: {
      embedding: 'model.decoder.embed_tokens',
      positions: 'model.decoder.embed_positions',
      projection: { in: 'model.decoder.project_in', out: 'model.decoder.project_out' },
      layers: 'model.decoder.layers.',
      norms: { attention: 'self_attn_layer_norm', mlp: 'final_layer_norm', outputs: null, heads: null },
      queryKeyValue: {
        kind: 'separate',
        query: 'self_attn.q_proj',
        key: 'self_attn.k_proj',
        value: 'self_attn.v_proj',
      },
      attentionOutput: 'self_attn.out_proj',
      mlp: { kind: 'plain', up: 'fc1', down: 'fc2' },
      finalNorm: config.do_layer_norm_before ? 'model.decoder.final_layer_norm' : null,
      head: 'lm_head',
    },
  };
}
