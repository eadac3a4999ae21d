// Powers of two that bring each row's largest weight to [2^14, 2^15), and back: rowFactors [rows][2] f32 for linear_gemm_matrix.wgsl, rows padded to
// quads; 1 and 1 for a row of zeros or one that is not finite. Included after a format's file; one workgroup a quad.
@group(0) @binding(next) var<storage, read_write> rowFactors: array<vec2<f32>>;
#include "place.wgsl"
const LARGEST_EXPONENT = 14;
var<workgroup> largest: array<vec4<u32>, THREADS>;

/// Bits of the largest magnitude: as integers, infinity is above every number and NaN above infinity.
fn largestOf(found: Eight, scale: vec4<f32>) -> u32 {
  let magnitudes = max(bitcast<vec4<u32>>(found.low * scale) & vec4<u32>(0x7fffffffu), bitcast<vec4<u32>>(found.high * scale) & vec4<u32>(0x7fffffffu));
  return max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  prepare(thread);
  let quad = groupIndex(group, groups);
  var most = vec4<u32>();
  if (4u * quad < params.rows) {
    for (var block = thread; block < 4u * params.chunks; block += u32(THREADS)) {
      let terms = termsOf(quad, block / 4u);
#repeat r 4
      most[$r] = max(most[$r], largestOf(eight(4u * quad + $ru, block, terms.zeros[$r]), PRESCALE * terms.scales[$r]));
#end
    }
  }
  largest[thread] = most;
  workgroupBarrier();
  for (var width = u32(THREADS) / 2u; width > 0u; width /= 2u) {
    if (thread < width) { largest[thread] = max(largest[thread], largest[thread + width]); }
    workgroupBarrier();
  }
  if (thread >= 4u || 4u * quad >= params.rows) { return; }
  let bits = largest[0][thread];
  let exponent = clamp(i32(bits >> 23u) - 127 - LARGEST_EXPONENT, -110, 113);
  let isUsual = bits != 0u && bits < 0x7f800000u;
  rowFactors[4u * quad + thread] = select(vec2<f32>(1.0), vec2<f32>(ldexp(1.0, -exponent), ldexp(1.0, exponent)), isUsual);
}
