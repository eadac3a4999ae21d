/** Config: what config.json says of a Llama-family model, checked. An option this build cannot run is refused by name, never ignored. */
import { z } from 'zod';
import { NibbleError } from '../errors.ts';

/** Far above any published model; keeps products of two of them below 2^53. */
const dimension = z.int().min(1).max(4_000_000);
const tokenIds = z.union([z.int().min(0), z.array(z.int().min(0)).max(64)]).nullish();

const LlamaConfigJson = z.object({
  model_type: z.string().max(100),
  architectures: z.array(z.string().max(200)).max(8).optional(),
  hidden_size: dimension,
  intermediate_size: dimension,
  num_hidden_layers: z.int().min(1).max(1024),
  num_attention_heads: z.int().min(1).max(1024),
  num_key_value_heads: z.int().min(1).max(1024).nullish(),
  head_dim: z.int().min(2).max(1024).nullish(),
  vocab_size: dimension,
  max_position_embeddings: dimension,
  rms_norm_eps: z.number().gt(0).max(1).default(1e-6),
  rope_theta: z.number().gt(0).optional(),
  /** Where transformers 5 keeps what used to be rope_theta and rope_scaling. */
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  hidden_act: z.string().max(100).default('silu'),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
  sliding_window: z.int().nullish(),
});

export interface ModelConfig {
  architecture: string;
  hidden: number;
  intermediate: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  contextTokens: number;
  rmsNormEps: number;
  ropeTheta: number;
  tiedHead: boolean;
  attentionBias: boolean;
  mlpBias: boolean;
  eosTokenIds: readonly number[];
  /** How its makers sample from it; 1, 0 and 1 where they do not say. */
  sampling: SamplingDefaults;
}

export interface SamplingDefaults {
  temperature: number;
  topK: number;
  topP: number;
}

/** generation_config.json, as far as it is read. Values out of range are errors, not defaults. */
const GenerationConfigJson = z.object({
  eos_token_id: tokenIds,
  temperature: z.number().min(0).max(100).nullish(),
  top_k: z.int().min(0).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
});

/** `generation` is generation_config.json or null; its eos ids win, as they do in transformers. `file` names config.json in errors. */
export function parseModelConfig(json: unknown, generation: unknown, file: string): ModelConfig {
  const unsupported = (option: string, reason: string): never => {
    throw new NibbleError({ code: 'model_unsupported', file, option, reason });
  };
  const modelType = typeof json === 'object' && json !== null && 'model_type' in json ? json.model_type : undefined;
  if (modelType !== 'llama')
    unsupported(`model_type ${JSON.stringify(modelType)}`, 'this version runs the Llama architecture ("llama") only');
  const parsed = LlamaConfigJson.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: null,
      rule: `${issue?.path.join('.') || 'config'}: ${issue?.message}`,
    });
  }
  const config = parsed.data;
  const generated = parseGeneration(generation, file);
  const rope: Record<string, unknown> = { ...config.rope_scaling, ...config.rope_parameters };
  const ropeType = rope.rope_type ?? rope.type ?? 'default';
  if (ropeType !== 'default') unsupported(`rope scaling ${JSON.stringify(ropeType)}`, 'not supported yet');
  if (config.hidden_act !== 'silu') unsupported(`hidden_act "${config.hidden_act}"`, 'only silu is supported yet');
  if (typeof config.sliding_window === 'number' && config.sliding_window < config.max_position_embeddings)
    unsupported('sliding_window', 'not supported yet');

  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  const invalid = (rule: string): never => {
    throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
  };
  if (heads % kvHeads !== 0)
    invalid(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  if (config.head_dim == null && config.hidden_size % heads !== 0)
    invalid(`hidden_size ${config.hidden_size} is not a multiple of num_attention_heads ${heads}`);
  const headDim = config.head_dim ?? config.hidden_size / heads;
  if (headDim % 2 !== 0) invalid(`head_dim ${headDim} is odd; rotary embedding needs pairs`);
  const ropeTheta = typeof rope.rope_theta === 'number' ? rope.rope_theta : (config.rope_theta ?? 10_000);

  return {
    architecture: config.architectures?.[0] ?? 'LlamaForCausalLM',
    hidden: config.hidden_size,
    intermediate: config.intermediate_size,
    layers: config.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    vocabSize: config.vocab_size,
    contextTokens: config.max_position_embeddings,
    rmsNormEps: config.rms_norm_eps,
    ropeTheta,
    tiedHead: config.tie_word_embeddings,
    attentionBias: config.attention_bias,
    mlpBias: config.mlp_bias,
    eosTokenIds: listOf(generated.eos_token_id ?? config.eos_token_id),
    sampling: { temperature: generated.temperature ?? 1, topK: generated.top_k ?? 0, topP: generated.top_p ?? 1 },
  };
}

function parseGeneration(json: unknown, file: string): z.infer<typeof GenerationConfigJson> {
  const parsed = GenerationConfigJson.safeParse(json ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const rule = `generation_config.json beside it: ${issue?.path.join('.') || 'config'}: ${issue?.message}`;
  throw new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
}

function listOf(ids: number | number[] | null | undefined): readonly number[] {
  if (ids == null) return [];
  return typeof ids === 'number' ? [ids] : ids;
}
