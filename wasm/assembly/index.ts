// The kernel set: every export of nibble-relaxed.wasm and nibble-plain.wasm. The two builds differ only in ASC_FEATURE_RELAXED_SIMD.
// Kernels take (task, part, parts), see task.ts.

export { bit2Mask, byteMask16, crumbMask, halfFactor, halfMask, nibbleMask, roundingMagic } from './constants';
export { gated_gelu, gated_gelu_tanh, gated_relu, gated_silu } from './activation';
export { add } from './add';
export { attention, score_run_f16, score_run_f32, score_run_int8, values_run_f16, values_run_f32, values_run_int8 } from './attention';
export { copy_columns } from './copy_columns';
export { embed_f16, embed_f32 } from './embed';
export { embed_gptq } from './embed_gptq';
export { exp_f32 } from './exp';
export { gather_rows } from './gather_rows';
export { layer_norm } from './layer_norm';
export { dot_limit, read, read_limit } from './limits';
export { linear_bnb4_blocks } from './linear_bnb4_blocks';
export { linear_chunks } from './linear_chunks';
export { linear_dense_f16, linear_dense_f32 } from './linear_dense';
export { linear_int8 } from './linear_int8';
export { pad_rows } from './pad_rows';
export { quantize_rows } from './quantize_rows';
export { quantize_tokens } from './quantize_tokens';
export { add_rms_norm, rms_norm } from './rms_norm';
export { rope_kv } from './rope_kv';
export { softcap } from './softcap';
export { tanh_f32 } from './tanh';
export { await_task, publish, settle } from './team';
export { top } from './top';
