// y = sum of SHARES partial products + bias; GATED: y = f(gate) · (…). partial [shares, tokens, cols] f32, y, gate [tokens, cols] f32, bias [cols] f32.
// Added in order of the shares. Follows linear_gemm.wgsl and linear_gemm_matrix.wgsl. APART: linear_output.wgsl.
struct Params {
  count: u32,
  shares: u32,
  tokens: u32,
  rows: u32,
  first: u32,
  cols: u32,
#if APART
  end0: u32,
  end1: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> partial: array<f32>;
#include "linear_output.wgsl"
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i >= params.count) { return; }
  var sum = partial[i];
  for (var share = 1u; share < params.shares; share++) { sum += partial[share * params.count + i]; }
  put(0u, i / params.cols, i % params.cols, sum);
}
