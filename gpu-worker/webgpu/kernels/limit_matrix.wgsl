// ROUNDS of eight independent chains of products of subgroup matrices, f16 × f16 summed in f32, in registers: the rate of the matrix units. A product is
// 2·M·N·K operations of a subgroup. y [threads] f32. Reached for by linear_gemm_matrix.wgsl.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
struct Params { count: u32, rounds: u32, factor: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read_write> y: array<f32>;
#include "place.wgsl"
var<workgroup> ends: array<f32, 4 * M * N>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  // Known only at run time, so that nothing is folded away.
  let left = subgroup_matrix_left<f16, K, M>(f16(params.factor));
  let right = subgroup_matrix_right<f16, N, K>(f16(params.factor));
#repeat i 8
  var sum$i = subgroup_matrix_result<f32, N, M>(f32($i));
#end
  for (var round = 0u; round < params.rounds; round++) {
#repeat i 8
    sum$i = subgroupMatrixMultiplyAccumulate(left, right, sum$i);
#end
  }
  let own = subgroup * u32(M * N);
  var total = 0.0;
#repeat i 8
  subgroupMatrixStore<row_major>(&ends, own, sum$i, u32(N));
  workgroupBarrier();
  total += ends[own];
  workgroupBarrier();
#end
  let place = groupIndex(group, groups) * u32(THREADS) + thread;
  if (place < params.count) { y[place] = total; }
}
