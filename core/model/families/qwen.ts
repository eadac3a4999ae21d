/** Qwen2 (biases on queries, keys and values) and Qwen3 (norms on query and key heads); both may see a sliding window in some layers. */
import { z } from 'zod';
import type { Architecture } from '../architecture.ts';
import { readRope } from '../rope-config.ts';
import { attentionByType, type ConfigFile, dimension, headWidth, layerTypes, layerTypesOf } from './family.ts';
import { LLAMA_TENSORS, LlamaFields, llamaArchitecture, ropePlace } from './llama.ts';

const QwenFields = LlamaFields.extend({
  use_sliding_window: z.boolean().default(false),
  sliding_window: dimension.nullable().default(4096),
  /** Layers from this one on have the window, where layer_types does not say. */
  max_window_layers: z.int().min(0).max(100_000).default(28),
  layer_types: layerTypes,
});
const Qwen3Fields = QwenFields.extend({ head_dim: headWidth.nullable().default(128) });

export function qwen2(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(QwenFields, json);
  file.allowOnly(json as object, { attention_bias: true, mlp_bias: false });
  return {
    ...qwenArchitecture(config, file),
    bias: { queryKeyValue: true, attentionOutput: false, mlp: false },
  };
}

export function qwen3(json: unknown, file: ConfigFile): Architecture {
  file.allowOnly(json as object, { mlp_bias: false });
  const heads = { query: 'self_attn.q_norm', key: 'self_attn.k_norm' };
  return {
    ...qwenArchitecture(file.parse(Qwen3Fields, json), file),
    queryKeyNorm: 'per-head',
    tensors: { ...LLAMA_TENSORS, norms: { ...LLAMA_TENSORS.norms, heads } },
  };
}

function qwenArchitecture(config: z.infer<typeof QwenFields>, file: ConfigFile): Architecture {
  const window = config.use_sliding_window ? config.sliding_window : null;
  const byPlace = (index: number) =>
    window !== null && index >= config.max_window_layers ? 'sliding_attention' : 'full_attention';
  const types = layerTypesOf(config.layer_types, config.num_hidden_layers, byPlace, file);
  const rope = readRope(config, ropePlace(config, file), file);
  return llamaArchitecture(
    config,
    attentionByType(types, window, () => rope, file),
    file,
  );
}
