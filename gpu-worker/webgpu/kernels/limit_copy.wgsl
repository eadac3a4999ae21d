// y = x, 16 bytes a thread, UNROLL of them a whole grid apart: what the device's memory does at best. x, y [count] vec4<u32>.
struct Params { count: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = groupIndex(group, groups) * u32(THREADS) + thread;
  for (var i = first; i < params.count; i += params.stride) { y[i] = x[i]; }
}
