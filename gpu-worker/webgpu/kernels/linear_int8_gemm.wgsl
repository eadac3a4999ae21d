// Many tokens: tiles as in linear_gemm.wgsl, 32 channels at a time as 8 words of four i8. Outliers come after the tile's integers.
// Bound by dot4I8Packed: 64 of them for four 16-byte reads of workgroup memory at TILE_M = 64.
const QUADS_M = u32(TILE_M) / 4u;
var<workgroup> tileX: array<vec4<u32>, 8 * TILE_M / 4>;
var<workgroup> tileW: array<vec4<u32>, 8 * 16>;

fn dots(a: u32, b: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}

alias Sums = vec4<i32>;
/// With the outliers of the share's channels; rows beyond the last are dropped later.
fn valueOf(sums: Sums, share: u32, token: u32, quad: u32) -> vec4<f32> {
  let within = min(quad, (params.rows - 1u) / 4u);
  var exact = vec4<f32>();
#if OUTLIERS
  let begin = share * params.splitChunks;
  for (var chunk = begin; chunk < min(begin + params.splitChunks, params.chunks); chunk++) { exact += outliersIn(chunk, token, within); }
#endif
  return scaled(sums, exact, token, within);
}
#include "linear_gemm_end.wgsl"

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let token0 = group.y * u32(TILE_M);
  let row0 = group.x * 64u;
  let cell = vec2<u32>(thread % 8u, thread / 8u);
#repeat i THREAD_M
  var low$i = vec4<i32>();
  var high$i = vec4<i32>();
#end
  let begin = group.z * params.splitChunks;
  let end = min(begin + params.splitChunks, params.chunks);
  for (var chunk = begin; chunk < end; chunk++) {
    // A quad of tokens or rows, two words: read by rows, written by words.
    for (var i = thread; i < QUADS_M * 4u; i += 64u) {
      let quad = i % QUADS_M;
      let pair = i / QUADS_M;
#repeat r 4
      let a$r = xCodes[(min(token0 + 4u * quad + $ru, params.tokens - 1u) * params.chunks + chunk) * 4u + pair];
#end
      tileX[2u * pair * QUADS_M + quad] = vec4<u32>(a0.x, a1.x, a2.x, a3.x);
      tileX[(2u * pair + 1u) * QUADS_M + quad] = vec4<u32>(a0.y, a1.y, a2.y, a3.y);
    }
    {
      let quad = thread % 16u;
      let pair = thread / 16u;
      let weightQuad = min(row0 / 4u + quad, (params.rows - 1u) / 4u);
#repeat r 4
      let b$r = codes[((4u * weightQuad + $ru) * params.chunks + chunk) * 4u + pair];
#end
      tileW[2u * pair * 16u + quad] = vec4<u32>(b0.x, b1.x, b2.x, b3.x);
      tileW[(2u * pair + 1u) * 16u + quad] = vec4<u32>(b0.y, b1.y, b2.y, b3.y);
    }
    workgroupBarrier();
    for (var k = 0u; k < 8u; k++) {
      let b0 = tileW[k * 16u + cell.x];
      let b1 = tileW[k * 16u + 8u + cell.x];
#if THREAD_M_8
      let a0 = tileX[k * QUADS_M + cell.y];
      let a1 = tileX[k * QUADS_M + 8u + cell.y];
#repeat i 4
      low$i += dots(a0[$i], b0);
      high$i += dots(a0[$i], b1);
#end
      low4 += dots(a1[0], b0);
      high4 += dots(a1[0], b1);
      low5 += dots(a1[1], b0);
      high5 += dots(a1[1], b1);
      low6 += dots(a1[2], b0);
      high6 += dots(a1[2], b1);
      low7 += dots(a1[3], b0);
      high7 += dots(a1[3], b1);
#endif
#if THREAD_M_4
      let a0 = tileX[k * QUADS_M + cell.y];
#repeat i 4
      low$i += dots(a0[$i], b0);
      high$i += dots(a0[$i], b1);
#end
#endif
#if THREAD_M_2
      let quad = tileX[k * QUADS_M + cell.y / 2u];
      let a0 = select(quad.xy, quad.zw, cell.y % 2u == 1u);
#repeat i 2
      low$i += dots(a0[$i], b0);
      high$i += dots(a0[$i], b1);
#end
#endif
    }
    workgroupBarrier();
  }
  var lows: array<Sums, THREAD_M>;
  var highs: array<Sums, THREAD_M>;
#repeat i THREAD_M
  lows[$i] = low$i;
  highs[$i] = high$i;
#end
  finish(group, cell, &lows, &highs);
}
