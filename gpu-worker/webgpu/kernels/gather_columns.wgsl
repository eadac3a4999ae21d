// y[:, c] = x[:, columns[c]]. x [rows, xCols] f32, columns [yCols] u32, y [rows, yCols] f32, count = rows · yCols.
// Reference: copyColumns in core/model/reference-rows.ts.
struct Params { count: u32, xCols: u32, yCols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i < params.count) { y[i] = x[(i / params.yCols) * params.xCols + columns[i % params.yCols]]; }
}
