// Activations as f16 for linear_gemv.wgsl with HALVES: x · 2^−e per token, so that the largest lies in [256, 512) and 8 products with codes up to 15
// stay in f16; factors [tokens] f32 = 2^e, or the NaN or infinity that a token has. x [tokens, inFeatures] f32 → halves [tokens][chunks·4] of
// eight f16: pairs (0, 4), (1, 5)/16, (2, 6), (3, 7)/16 of the eight channels, as the codes lie. Channels are gathered as in gather_channels.wgsl.
// Rounding costs 2^−12 of a value, and what is 2^20 smaller than the token's largest loses digits. One workgroup a token.
enable f16;
struct Params { tokens: u32, inFeatures: u32, chunks: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> x: array<f32>;
@group(0) @binding(next) var<storage, read_write> halves: array<vec4<u32>>;
@group(0) @binding(next) var<storage, read_write> factors: array<f32>;
#if PERMUTED
@group(0) @binding(next) var<storage, read> channels: array<u32>;
#endif
#include "place.wgsl"

var<workgroup> largest: array<u32, THREADS>;

fn valueAt(token: u32, at: u32) -> f32 {
#if PERMUTED
  let channel = channels[at];
#else
  let channel = at;
#endif
  if (channel >= params.inFeatures) { return 0.0; }
  return x[token * params.inFeatures + channel];
}

fn pairOf(a: f32, b: f32) -> u32 {
  return bitcast<u32>(vec2<f16>(f16(a), f16(b)));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let token = groupIndex(group, groups);
  if (token >= params.tokens) { return; }
  // As integers, where infinity is above every number and NaN above infinity.
  var most = 0u;
  for (var k = thread; k < params.inFeatures; k += u32(THREADS)) {
    most = max(most, bitcast<u32>(x[token * params.inFeatures + k]) & 0x7fffffffu);
  }
  largest[thread] = most;
  workgroupBarrier();
  for (var width = u32(THREADS) / 2u; width > 0u; width /= 2u) {
    if (thread < width) { largest[thread] = max(largest[thread], largest[thread + width]); }
    workgroupBarrier();
  }
  most = largest[0];
  let isFinite = most < 0x7f800000u;
  let exponent = clamp(i32(most >> 23u) - 127 - 8, -110, 110);
  if (thread == 0u) { factors[token] = select(bitcast<f32>(most), ldexp(1.0, exponent), isFinite); }
  let scale = select(0.0, ldexp(1.0, -exponent), isFinite);
  for (var block = thread; block < params.chunks * 4u; block += u32(THREADS)) {
    var values: array<f32, 8>;
    for (var i = 0u; i < 8u; i++) {
      values[i] = 1.0;
      if (isFinite) { values[i] = valueAt(token, 8u * block + i) * scale; }
    }
    halves[token * params.chunks * 4u + block] = vec4<u32>(
      pairOf(values[0], values[4]), pairOf(values[1] * 0.0625, values[5] * 0.0625),
      pairOf(values[2], values[6]), pairOf(values[3] * 0.0625, values[7] * 0.0625),
    );
  }
}
