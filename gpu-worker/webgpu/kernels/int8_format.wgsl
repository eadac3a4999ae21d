// LLM.int8()'s buffers. Weights codes [rows][chunks][8] u32 and rowAbsmax [rows] f32; activations as quantize_int8.wgsl leaves them:
// xCodes [tokens][chunks][8] u32, absmax [tokens] f32, OUTLIERS: masks [tokens][chunks] u32 and x [tokens, inFeatures] f32 itself. Four i8 a word.
#if TILED
alias Words = vec2<u32>;
#else
alias Words = vec4<u32>;
#endif
@group(0) @binding(next) var<storage, read> xCodes: array<Words>;
@group(0) @binding(next) var<storage, read> absmax: array<f32>;
#if OUTLIERS
@group(0) @binding(next) var<storage, read> masks: array<u32>;
@group(0) @binding(next) var<storage, read> x: array<f32>;
#endif
@group(0) @binding(next) var<storage, read> codes: array<Words>;
@group(0) @binding(next) var<storage, read> rowAbsmax: array<vec4<f32>>;

#if OUTLIERS
fn weightAt(row: u32, channel: u32) -> f32 {
  let word = row * params.chunks * 8u + channel / 4u;
#if TILED
  let bits = codes[word / 2u][word % 2u];
#else
  let bits = codes[word / 4u][word % 4u];
#endif
  return f32(extractBits(i32(bits), 8u * (channel % 4u), 8u));
}

/// x · codes over a token's outliers in one chunk, in order, for the four rows of a quad.
fn outliersIn(chunk: u32, token: u32, quad: u32) -> vec4<f32> {
  var sum = vec4<f32>();
  var mask = masks[token * params.chunks + chunk];
  while (mask != 0u) {
    let channel = 32u * chunk + firstTrailingBit(mask);
    mask &= mask - 1u;
    let value = x[token * params.inFeatures + channel];
    sum += value * vec4<f32>(
      weightAt(4u * quad, channel), weightAt(4u * quad + 1u, channel), weightAt(4u * quad + 2u, channel), weightAt(4u * quad + 3u, channel),
    );
  }
  return sum;
}
#endif

/// Four rows' outputs of a token before the bias.
fn scaled(integers: vec4<i32>, exact: vec4<f32>, token: u32, quad: u32) -> vec4<f32> {
  return (vec4<f32>(integers) * (absmax[token] / 127.0) + exact) * (rowAbsmax[quad] / 127.0);
}
