// The kernel set: every export of nibble-relaxed.wasm and nibble-plain.wasm. The two builds differ only in ASC_FEATURE_RELAXED_SIMD.

export { halfFactor, halfMask, nibbleMask, nibbleMask16 } from './constants';
export { attention } from './attention';
export { embed_f16, embed_f32 } from './embed';
export { exp_f32 } from './exp';
export { gated_silu } from './gated_silu';
export { gather_rows } from './gather_rows';
export { linear_dense_f16, linear_dense_f32, pad_rows } from './linear_dense';
export { linear_gptq_asym, linear_gptq_sym } from './linear_gptq';
export { quantize_rows } from './quantize_rows';
export { add_rms_norm, rms_norm } from './rms_norm';
export { rope_kv } from './rope_kv';
