// The kernel set: every export of nibble-relaxed.wasm and nibble-plain.wasm. The two builds differ only in ASC_FEATURE_RELAXED_SIMD.

export { bit2Mask, byteMask16, crumbMask, halfFactor, halfMask, nibbleMask } from './constants';
export { activate_gelu, activate_gelu_tanh, activate_relu, activate_silu, gated_gelu, gated_gelu_tanh, gated_relu, gated_silu } from './activation';
export { add } from './add';
export { attention } from './attention';
export { copy_columns } from './copy_columns';
export { embed_f16, embed_f32 } from './embed';
export { exp_f32 } from './exp';
export { gather_rows } from './gather_rows';
export { layer_norm, layer_norm_bias } from './layer_norm';
export { dot_limit, read_limit } from './limits';
export { linear_bnb4_blocks, linear_bnb4_chunks } from './linear_bnb4';
export { linear_dense_f16, linear_dense_f32, pad_rows } from './linear_dense';
export {
  linear_gptq2_asym,
  linear_gptq2_sym,
  linear_gptq3_asym,
  linear_gptq3_sym,
  linear_gptq4_asym,
  linear_gptq4_sym,
  linear_gptq8_asym,
  linear_gptq8_sym,
} from './linear_gptq';
export { linear_int8 } from './linear_int8';
export { quantize_rows } from './quantize_rows';
export { quantize_tokens } from './quantize_tokens';
export { add_rms_norm, rms_norm } from './rms_norm';
export { rope_kv } from './rope_kv';
export { tanh_f32 } from './tanh';
