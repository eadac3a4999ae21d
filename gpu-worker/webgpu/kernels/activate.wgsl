// y = f(x); GATED: y = f(x) · up. All [count] f32. Reference: applied in core/model/reference-rows.ts.
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if GATED
@group(0) @binding(3) var<storage, read> up: array<f32>;
#endif
#include "place.wgsl"
#include "activation_function.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i >= params.count) { return; }
#if GATED
  y[i] = applied(x[i]) * up[i];
#else
  y[i] = applied(x[i]);
#endif
}
