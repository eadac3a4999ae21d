// A linear's kernel by its tokens: linear_gemv.wgsl for few; TILED: linear_gemm.wgsl; MATRICES as well: linear_gemm_matrix.wgsl, whose sums are f32 of f16
// products. FACTORS: no product but linear_row_factors.wgsl, which prepares MATRICES.
#if FACTORS
#include "linear_row_factors.wgsl"
#else
#include "linear_output.wgsl"
#if MATRICES
#include "linear_gemm_matrix.wgsl"
#else
#if TILED
#include "linear_gemm.wgsl"
#else
#include "linear_gemv.wgsl"
#endif
#endif
#endif
