// y = (xCodes · Wᵀ · absmax/127 + Σ over outliers x · W) · rowAbsmax/127 + bias: LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339, each token alone.
// Buffers: int8_format.wgsl, linear_params.wgsl, linear_output.wgsl. The integers are exact in i32 to 2^17 channels, so their order does not matter;
// outliers are multiplied in f32. TILED: linear_int8_gemm.wgsl, otherwise linear_int8_gemv.wgsl. Reference: int8Product in core/model/reference-weights.ts.
#include "linear_params.wgsl"
#include "int8_format.wgsl"
#include "linear_output.wgsl"
#if TILED
#include "linear_int8_gemm.wgsl"
#else
#include "linear_int8_gemv.wgsl"
#endif
