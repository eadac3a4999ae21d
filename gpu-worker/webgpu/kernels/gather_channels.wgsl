// y[:, i] = x[:, channels[i]] (PERMUTED) or x[:, i]; 0 where that is no channel of x. x [tokens, xCols] f32, channels [yCols] u32, y [tokens, yCols] f32.
// The activations in the order in which a weight's channels lie, padded to whole chunks.
struct Params { count: u32, xCols: u32, yCols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> x: array<f32>;
@group(0) @binding(next) var<storage, read_write> y: array<f32>;
#if PERMUTED
@group(0) @binding(next) var<storage, read> channels: array<u32>;
#endif
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i >= params.count) { return; }
  var channel = i % params.yCols;
#if PERMUTED
  channel = channels[channel];
#endif
  y[i] = 0.0;
  if (channel < params.xCols) { y[i] = x[(i / params.yCols) * params.xCols + channel]; }
}
