// y[r, :] = x[rows[r], :]. x [*, cols] f32, rows [count / cols] i32, y [count / cols, cols] f32. Reference: gatherRows in core/model/reference.ts.
struct Params { count: u32, cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i < params.count) { y[i] = x[rows[i / params.cols] * params.cols + i % params.cols]; }
}
