// Joins the splits of paged_attention_decode.wgsl: y = Σ_s exp(m_s − m)·partial_s / Σ_s exp(m_s − m)·total_s with m = max m_s, over the
// splits in order, f32. partials [rows, heads, 2·pieces + 1] vec4<f32>; merges [merges] = token row, first row of partials, splits, 0;
// y [tokens, heads·headDim] f32. One workgroup a token and head, a thread a channel. Bounded by launching: it reads under 3% of what the
// pages weigh. Reference: attend in core/model/reference-attention.ts.
struct Params { merges: u32, heads: u32, headDim: u32, pieces: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read> merges: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let unit = groupIndex(group, groups);
  if (unit >= params.merges * params.heads) { return; }
  let stride = 8u * params.pieces + 4u;
  let merge = merges[unit / params.heads];
  let head = unit % params.heads;
  var most = -3.4028234663852886e+38;
  for (var split = 0u; split < merge.z; split++) {
    most = max(most, partials[((merge.y + split) * params.heads + head) * stride + stride - 4u]);
  }
  for (var channel = thread; channel < params.headDim; channel += u32(THREADS)) {
    var sum = 0.0;
    var total = 0.0;
    for (var split = 0u; split < merge.z; split++) {
      let start = ((merge.y + split) * params.heads + head) * stride;
      let weight = exp(partials[start + stride - 4u] - most);
      sum += weight * partials[start + channel];
      total += weight * partials[start + stride - 3u];
    }
    y[(merge.x * params.heads + head) * params.headDim + channel] = sum / total;
  }
}
