// LLM.int8()'s activations, each token alone: rounded to f16, then code = round(x · (1/absmax · 127)), ties to even; absmax [tokens] f32.
// x [tokens, inFeatures] f32 → codes [tokens][chunks][8] u32, four i8 a word, zeros beyond inFeatures. OUTLIERS: those of magnitude ≥ threshold
// get code 0, count nothing toward absmax and have their bit set in masks [tokens][chunks] u32. What f16 cannot hold stays as it is.
// 1/absmax and the product with 127 are rounded as f32 rounds on a CPU, since ties hang on it: WGSL's division may be 2.5 units off.
// A NaN or infinity that is no outlier becomes absmax, so the token's output is not a number. One workgroup a token.
// Reference: int8Product in core/model/reference-weights.ts.
struct Params { tokens: u32, inFeatures: u32, chunks: u32, threshold: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> x: array<f32>;
@group(0) @binding(next) var<storage, read_write> codes: array<u32>;
@group(0) @binding(next) var<storage, read_write> absmax: array<f32>;
#if OUTLIERS
@group(0) @binding(next) var<storage, read_write> masks: array<u32>;
#endif
#include "place.wgsl"

var<workgroup> largest: array<u32, THREADS>;

/// To the nearest f16, ties to even; what f16 cannot hold stays.
fn half(value: f32) -> f32 {
  let bits = bitcast<u32>(value);
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) { return value; }
  // Subnormals of f16 count units of 2^-24.
  if (magnitude < 0x38800000u) { return round(value * 16777216.0) * 5.9604644775390625e-8; }
  return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn isOutlier(value: f32) -> bool {
#if OUTLIERS
  // As integers, where a NaN is above infinity.
  let magnitude = bitcast<u32>(value) & 0x7fffffffu;
  return magnitude >= bitcast<u32>(params.threshold) && magnitude <= 0x7f800000u;
#else
  return false;
#endif
}

/// 1/x rounded to nearest, for x that f16 holds: 11 bits of fraction, so two integer divisions give 24 of the quotient and the rest.
fn reciprocal(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let fraction = ((bits >> 13u) & 0x3ffu) | 0x400u;
  if ((bits & 0x1fffu) != 0u || fraction == 0x400u) { return 1.0 / x; }
  // 2^34 / fraction lies between 2^23 and 2^24; it is never halfway.
  let high = 0x80000000u / fraction;
  let rest = (0x80000000u % fraction) * 8u;
  let quotient = high * 8u + rest / fraction + select(0u, 1u, 2u * (rest % fraction) > fraction);
  // x = fraction · 2^(e−10).
  let exponent = i32(bits >> 23u) - 127;
  return ldexp(f32(quotient), -24 - exponent);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let token = groupIndex(group, groups);
  if (token >= params.tokens) { return; }
  let start = token * params.inFeatures;
  var most = 0u;
  for (var k = thread; k < params.inFeatures; k += u32(THREADS)) {
    let value = half(x[start + k]);
    if (!isOutlier(value)) { most = max(most, bitcast<u32>(value) & 0x7fffffffu); }
  }
  largest[thread] = most;
  workgroupBarrier();
  for (var width = u32(THREADS) / 2u; width > 0u; width /= 2u) {
    if (thread < width) { largest[thread] = max(largest[thread], largest[thread + width]); }
    workgroupBarrier();
  }
  let top = bitcast<f32>(largest[0]);
  if (thread == 0u) { absmax[token] = top; }
  var factor = 0.0;
  if (largest[0] != 0u) { factor = reciprocal(top) * 127.0; }
  for (var chunk = thread; chunk < params.chunks; chunk += u32(THREADS)) {
    var mask = 0u;
    for (var word = 0u; word < 8u; word++) {
      var packed = 0u;
      for (var i = 0u; i < 4u; i++) {
        let k = 32u * chunk + 4u * word + i;
        if (k >= params.inFeatures) { break; }
        let value = half(x[start + k]);
        if (isOutlier(value)) { mask |= 1u << (4u * word + i); continue; }
        packed |= (u32(i32(round(value * factor))) & 255u) << (8u * i);
      }
      codes[(token * params.chunks + chunk) * 8u + word] = packed;
    }
#if OUTLIERS
    masks[token * params.chunks + chunk] = mask;
#endif
  }
}
