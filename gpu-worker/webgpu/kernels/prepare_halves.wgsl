// Activations as f16: x · 2^−e per token, so that the largest lies in [2^LARGEST, 2^(LARGEST+1)); factors [tokens] f32 = 2^e, or the NaN or infinity
// that a token has. x [tokens, inFeatures] f32 → halves [tokens][chunks·4] of eight f16. Channels are gathered as in gather_channels.wgsl.
// ORDER 0: a chunk's channels in order, for linear_gemm_matrix.wgsl and linear_gemv.wgsl with tables. ORDER 2, 3, 4, 8: for linear_gemv.wgsl, pairs as codes of
// so many bits come out of their words by one mask (halvesOf in gptq_format.wgsl), over what the mask leaves them multiplied by.
// LARGEST: 8 products with the largest code stay below 2^16. Rounding costs 2^−12 of a value; what is 2^(LARGEST+14) smaller than the token's largest
// (less by a code's multiple) loses digits. One workgroup a token.
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

struct Place { channel: u32, divisor: f32 }

/// Which of a chunk's 32 channels the slot holds, and what it is divided by.
fn placeOf(slot: u32) -> Place {
#if ORDER_0
  return Place(slot, 1.0);
#endif
#if ORDER_2
  let second = 8u * (slot % 2u) + 4u * (slot / 8u % 2u);
  let pair = slot / 2u % 4u;
  return Place(16u * (slot / 16u) + second + pair, f32(1u << (2u * pair)));
#endif
#if ORDER_3
  let pair = slot / 2u;
  let multiple = array<f32, 5>(1.0, 8.0, 64.0, 1.0, 8.0)[pair % 5u];
  return Place(pair + 16u * (slot % 2u), multiple);
#endif
#if ORDER_4
  let pair = slot / 2u % 4u;
  return Place(8u * (slot / 8u) + 4u * (slot % 2u) + pair, select(1.0, 16.0, pair % 2u == 1u));
#endif
#if ORDER_8
  let pair = slot / 2u % 4u;
  return Place(8u * (slot / 8u) + 4u * (pair / 2u) + pair % 2u + 2u * (slot % 2u), 1.0);
#endif
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
  let exponent = clamp(i32(most >> 23u) - 127 - LARGEST, -110, 127 - LARGEST);
  if (thread == 0u) { factors[token] = select(bitcast<f32>(most), ldexp(1.0, exponent), isFinite); }
  let scale = select(0.0, ldexp(1.0, -exponent), isFinite);
  for (var block = thread; block < params.chunks * 4u; block += u32(THREADS)) {
    var values = vec4<u32>();
    for (var i = 0u; i < 8u; i++) {
      let place = placeOf(8u * (block % 4u) + i);
      var value = 1.0;
      if (isFinite) { value = valueAt(token, 32u * (block / 4u) + place.channel) * scale / place.divisor; }
      values[i / 2u] |= pack2x16float(vec2<f32>(value, 0.0)) << (16u * (i % 2u));
    }
    halves[token * params.chunks * 4u + block] = values;
  }
}
