// x = softcap · tanh(x / softcap) in place. x [count] f32. Reference: softcap in core/model/reference.ts.
struct Params { count: u32, softcap: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
#include "place.wgsl"
#include "tanh_exact.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i < params.count) { x[i] = params.softcap * tanhExact(x[i] / params.softcap); }
}
