/** Falcon 7B, 11B, 40B, 180B and RW: LayerNorm, attention beside the mlp, few key heads; RW has ALiBi. */
import { z } from 'zod';
import { alibiSlopes } from '../alibi.ts';
import type { Architecture, LayerNormNames } from '../architecture.ts';
import { contextTokensOf, ROPE_FIELDS, readRope } from '../rope-config.ts';
import {
  activationOf,
  architectureNames,
  type ConfigFile,
  dimension,
  epsilon,
  headCount,
  headDimOf,
  layerCount,
  optionName,
} from './family.ts';

/** Names of the first files ("RefinedWeb") beside today's. */
const FalconFields = z.object({
  model_type: optionName,
  architectures: architectureNames,
  hidden_size: dimension.nullish(),
  n_embed: dimension.nullish(),
  num_hidden_layers: layerCount.nullish(),
  n_layer: layerCount.nullish(),
  num_attention_heads: headCount.nullish(),
  n_head: headCount.nullish(),
  num_kv_heads: headCount.nullish(),
  n_head_kv: headCount.nullish(),
  ffn_hidden_size: dimension.nullish(),
  vocab_size: dimension.default(65_024),
  max_position_embeddings: dimension.default(2048),
  layer_norm_epsilon: epsilon.default(1e-5),
  activation: optionName.default('gelu'),
  alibi: z.boolean().default(false),
  bias: z.boolean().default(false),
  multi_query: z.boolean().nullish(),
  parallel_attn: z.boolean().nullish(),
  new_decoder_architecture: z.boolean().nullish(),
  num_ln_in_parallel_attn: z.int().min(1).max(2).nullish(),
  tie_word_embeddings: z.boolean().default(true),
  ...ROPE_FIELDS,
});
type FalconFields = z.infer<typeof FalconFields>;

interface Layout {
  newDecoder: boolean;
  parallel: boolean;
  multiQuery: boolean;
}

export function falcon(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(FalconFields, json);
  file.allowOnly(json as object, { apply_residual_connection_post_layernorm: false });
  const layout = layoutOf(config, file);
  const hidden = required(config.n_embed ?? config.hidden_size, 'hidden_size', file);
  const layers = required(config.num_hidden_layers ?? config.n_layer, 'num_hidden_layers', file);
  const heads = required(config.num_attention_heads ?? config.n_head, 'num_attention_heads', file);
  const kvHeads = kvHeadsOf(config, layout, heads, file);
  const headDim = headDimOf(hidden, heads, file);
  const { max_position_embeddings: maxPositions, bias } = config;
  const place = { headDim, maxPositions, theta: 10_000, layerType: 'full_attention', partial: 'refused' } as const;
  const rope = config.alibi ? null : readRope(config, place, file);
  return {
    architecture: config.architectures?.[0] ?? 'FalconForCausalLM',
    hidden,
    embeddingWidth: hidden,
    intermediate: config.ffn_hidden_size ?? 4 * hidden,
    layers,
    heads,
    kvHeads,
    headDim,
    vocabSize: config.vocab_size,
    contextTokens: rope === null ? maxPositions : contextTokensOf(rope, maxPositions),
    norm: { kind: 'layer', eps: config.layer_norm_epsilon },
    placement: layout.parallel ? 'parallel' : 'pre',
    queryKeyNorm: 'none',
    activation: activationOf('activation', config.activation, file),
    bias: { queryKeyValue: bias, attentionOutput: bias, mlp: bias },
    embeddingScale: 1,
    learnedPositions: null,
    attentionScale: 1 / Math.sqrt(headDim),
    attentionSoftcap: null,
    // transformers scales the sum of q·k and slope · position.
    alibiSlopes: config.alibi ? alibiSlopes(heads).map((slope) => slope / Math.sqrt(headDim)) : null,
    layerAttention: Array.from({ length: layers }, () => ({ window: null, rope })),
    logitSoftcap: null,
    tiedHead: config.tie_word_embeddings,
    tensors: {
      embedding: 'transformer.word_embeddings',
      positions: null,
      projection: null,
      layers: 'transformer.h.',
      norms: normNames(config, layout, file),
      queryKeyValue: { kind: 'fused', name: 'self_attention.query_key_value', layout: 'groups' },
      attentionOutput: 'self_attention.dense',
      mlp: { kind: 'plain', up: 'mlp.dense_h_to_4h', down: 'mlp.dense_4h_to_h' },
      finalNorm: 'transformer.ln_f',
      head: 'lm_head',
    },
  };
}

function required<Value>(value: Value | null | undefined, name: string, file: ConfigFile): Value {
  if (value == null) throw file.invalid(`${name}: is missing`);
  return value;
}

/** The first files leave out what is false, and that of 40B says by its type alone that it has the new decoder. */
function layoutOf(config: FalconFields, file: ConfigFile): Layout {
  const otherwise = config.model_type === 'falcon';
  const newDecoder = config.new_decoder_architecture ?? config.model_type === 'RefinedWeb';
  const parallel = config.parallel_attn ?? otherwise;
  if (newDecoder && !parallel)
    throw file.unsupported('parallel_attn', 'false does not go with new_decoder_architecture');
  if (newDecoder && config.alibi) throw file.unsupported('alibi', 'true does not go with new_decoder_architecture');
  return { newDecoder, parallel, multiQuery: config.multi_query ?? otherwise };
}

function kvHeadsOf(config: FalconFields, { newDecoder, multiQuery }: Layout, heads: number, file: ConfigFile): number {
  // Today's files of 7B write num_kv_heads beside multi_query, which wins.
  if (!newDecoder && multiQuery) return 1;
  const kvHeads = config.num_kv_heads ?? config.n_head_kv ?? heads;
  if (heads % kvHeads !== 0)
    throw file.invalid(`num_attention_heads ${heads} is not a multiple of num_kv_heads ${kvHeads}`);
  if (!newDecoder && kvHeads !== heads)
    throw file.unsupported('num_kv_heads', 'it needs multi_query or new_decoder_architecture');
  return kvHeads;
}

function normNames(config: FalconFields, { newDecoder, parallel }: Layout, file: ConfigFile): LayerNormNames {
  const rest = { outputs: null, heads: null };
  if (!newDecoder && parallel && config.num_ln_in_parallel_attn === 2)
    throw file.unsupported('num_ln_in_parallel_attn', '2 needs new_decoder_architecture');
  if (newDecoder && config.num_ln_in_parallel_attn !== 1) return { attention: 'ln_attn', mlp: 'ln_mlp', ...rest };
  const mlp = parallel ? null : 'post_attention_layernorm';
  return { attention: 'input_layernorm', mlp, ...rest };
}
