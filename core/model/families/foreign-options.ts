/** Foreign options: what other model types' code reads. Files converted from them keep the fields, and ignoring one changes every answer. */
import type { ConfigFile } from './family.ts';

interface ForeignOption {
  /** With this value, or a list of it, it changes nothing; null: any value would. */
  neutral: unknown;
  /** Model types that read it; none of ours where absent. */
  readBy?: readonly string[];
}

const GEMMA = ['gemma2', 'gemma3_text', 'gemma3'];
const FALCON = ['falcon', 'RefinedWeb', 'RefinedWebModel'];

const FOREIGN_OPTIONS: Readonly<Record<string, ForeignOption>> = {
  // Granite, Cohere, MiniCPM, OLMo, DBRX: scaled or clipped activations.
  attention_multiplier: { neutral: null },
  embedding_multiplier: { neutral: 1 },
  residual_multiplier: { neutral: 1 },
  logits_scaling: { neutral: 1 },
  logit_scale: { neutral: 1 },
  scale_emb: { neutral: 1 },
  scale_depth: { neutral: null },
  dim_model_base: { neutral: null },
  clip_qkv: { neutral: null },
  // Gemma's.
  query_pre_attn_scalar: { neutral: null, readBy: GEMMA },
  attn_logit_softcapping: { neutral: null, readBy: GEMMA },
  final_logit_softcapping: { neutral: null, readBy: GEMMA },
  use_bidirectional_attention: { neutral: false },
  // Norms on queries and keys: Cohere, Llama 4, Persimmon. Qwen3 and Gemma 3 have theirs without an option.
  use_qk_norm: { neutral: false },
  qk_norm: { neutral: false },
  qk_layernorm: { neutral: false },
  // GPT-NeoX, GPT-J, ChatGLM, SmolLM3, Llama 4, Qwen2-VL: other rotary embeddings, or none in some layers.
  rotary_pct: { neutral: 1 },
  rotary_dim: { neutral: null },
  rope_ratio: { neutral: 1 },
  rope_interleave: { neutral: false },
  rope_interleaved: { neutral: false },
  no_rope_layers: { neutral: 1 },
  use_mrope: { neutral: false },
  attn_temperature_tuning: { neutral: false },
  attention_chunk_size: { neutral: null },
  layer_types: { neutral: 'full_attention', readBy: ['qwen2', 'qwen3', ...GEMMA] },
  // GPT-OSS, StreamingLLM.
  attention_sinks: { neutral: false },
  // BLOOM, MPT, Baichuan.
  alibi: { neutral: false, readBy: FALCON },
  use_alibi: { neutral: false },
  use_parallel_residual: { neutral: false },
  // Mixtral, Qwen MoE, DeepSeek; Nemotron's pruned blocks.
  num_experts: { neutral: 0 },
  num_local_experts: { neutral: 0 },
  n_routed_experts: { neutral: 0 },
  block_configs: { neutral: null },
};

/** Throws `model_unsupported` by the first one that `modelType` does not read and that is not neutral. */
export function refuseForeignOptions(json: object, modelType: string, file: ConfigFile): void {
  for (const [option, { neutral, readBy = [] }] of Object.entries(FOREIGN_OPTIONS)) {
    const value = (json as Record<string, unknown>)[option];
    const isNeutral = (each: unknown) => each == null || each === neutral;
    if (readBy.includes(modelType) || (Array.isArray(value) ? value.every(isNeutral) : isNeutral(value))) continue;
    throw file.unsupported(
      option,
      `${JSON.stringify(value).slice(0, 100)} has no meaning in model_type "${modelType}"`,
    );
  }
}
