/** Phi-3, 3.5 and 4 (mini): Llama with fused queries, keys and values, fused gate and up, and longrope. */
import type { Architecture } from '../architecture.ts';
import { ROPE_FIELDS, readRope } from '../rope-config.ts';
import { type ConfigFile, dimension, epsilon } from './family.ts';
import { LLAMA_TENSORS, LlamaFields, llamaArchitecture, ropePlace } from './llama.ts';

const Phi3Fields = LlamaFields.extend({
  rms_norm_eps: epsilon.default(1e-5),
  sliding_window: dimension.nullish(),
  original_max_position_embeddings: ROPE_FIELDS.original_max_position_embeddings.default(4096),
});

export function phi3(json: unknown, file: ConfigFile): Architecture {
  const config = file.parse(Phi3Fields, json);
  file.allowOnly(json as object, { attention_bias: false, mlp_bias: false });
  const rope = readRope(config, { ...ropePlace(config, file), partial: 'allowed' }, file);
  // Its first code took "yarn" for a longrope of another attention factor; no published file asks for it.
  if (rope.scaling.kind !== 'none' && rope.scaling.kind !== 'longrope')
    throw file.unsupported(`rope type "${rope.scaling.kind}"`, 'Phi-3 has default, longrope and su');
  const layer = { window: config.sliding_window ?? null, rope };
  return {
    ...llamaArchitecture(
      config,
      Array.from({ length: config.num_hidden_layers }, () => layer),
      file,
    ),
    tensors: {
      ...LLAMA_TENSORS,
      queryKeyValue: { kind: 'fused', name: 'self_attn.qkv_proj', layout: 'blocks' },
      mlp: { kind: 'fused', gateUp: 'mlp.gate_up_proj', down: 'mlp.down_proj' },
    },
  };
}
