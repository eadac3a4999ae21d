// y = x · Wᵀ + bias with bitsandbytes' 4-bit weights: W[n,k] = table[code[n,k]] · absmax[block of (n, k)], NF4 or FP4 by the table.
// Buffers and their layouts: bnb4_format.wgsl, linear_params.wgsl, linear_output.wgsl. All sums in f32.
// TILED: linear_gemm.wgsl, otherwise linear_gemv.wgsl. Bound by look-ups where memory is fast: a subgroup of 32 takes one table value a lane and
// cycle, 16 entries lie in 16 banks and never collide. Reference: dequantizeBnb4 in core/formats/nf4-fp4.ts.
#include "linear_params.wgsl"
#include "linear_x.wgsl"
#include "bnb4_format.wgsl"
#include "linear_main.wgsl"
