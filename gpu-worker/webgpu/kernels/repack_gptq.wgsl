// GPTQ's qweight [inFeatures·BITS/32][cols] u32 (codes packed along the channels, lowest bits first) → codes [rows][chunks][BITS] u32, see gptq_format.wgsl.
// Channel i of a row is channels[i] (PERMUTED) or i; what is no channel of the weight becomes 0. cols are rows firstRow.. of the part.
// One thread a chunk of a row.
struct Params { cols: u32, firstRow: u32, chunks: u32, inFeatures: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> qweight: array<u32>;
@group(0) @binding(next) var<storage, read_write> codes: array<u32>;
#if PERMUTED
@group(0) @binding(next) var<storage, read> channels: array<u32>;
#endif
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i >= params.cols * params.chunks) { return; }
  let col = i % params.cols;
  let chunk = i / params.cols;
  var words: array<u32, BITS>;
  for (var value = 0u; value < 32u; value++) {
    var channel = 32u * chunk + value;
#if PERMUTED
    channel = channels[channel];
#endif
    if (channel >= params.inFeatures) { continue; }
    let source = channel * u32(BITS);
    var code = qweight[(source / 32u) * params.cols + col] >> (source % 32u);
    if (source % 32u + u32(BITS) > 32u) { code |= qweight[(source / 32u + 1u) * params.cols + col] << (32u - source % 32u); }
    code &= (1u << u32(BITS)) - 1u;
    let goal = value * u32(BITS);
    words[goal / 32u] |= code << (goal % 32u);
    if (goal % 32u + u32(BITS) > 32u) { words[goal / 32u + 1u] |= code >> (32u - goal % 32u); }
  }
  let at = ((params.firstRow + col) * params.chunks + chunk) * u32(BITS);
#repeat w BITS
  codes[at + $wu] = words[$w];
#end
}
