// y = x · Wᵀ + bias with GPTQ's 2, 3, 4 and 8 bit weights: W[n,k] = scale[group(k), n] · (code[k, n] − zero[group(k), n]).
// Buffers and their layouts: gptq_format.wgsl, linear_params.wgsl, linear_output.wgsl; x's channels are sorted by group like the weight's
// (gather_channels.wgsl). All sums in f32
// but those of eight products with HALVES (4 bits, f16 where the adapter has it). TILED: linear_gemm.wgsl, otherwise linear_gemv.wgsl.
// Reference: dequantizeGptq in core/formats/gptq.ts.
#include "linear_params.wgsl"
#include "linear_x.wgsl"
#include "gptq_format.wgsl"
#include "linear_main.wgsl"
