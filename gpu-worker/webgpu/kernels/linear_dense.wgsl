// y = x · Wᵀ + bias with plain weights in f32, f16 or bf16.
// Buffers and their layouts: dense_format.wgsl, linear_params.wgsl, linear_output.wgsl.
// All sums in f32. TILED: linear_gemm.wgsl, otherwise linear_gemv.wgsl.
// Reference: floatsOf in core/formats/floats.ts.
#include "linear_params.wgsl"
#include "linear_x.wgsl"
#include "dense_format.wgsl"
#include "linear_main.wgsl"
