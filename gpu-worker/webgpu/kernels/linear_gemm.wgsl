// Many tokens (prefill): y = x · Wᵀ in tiles of TILE_M tokens × 64 rows by 64 threads, 32 channels at a time. Both tiles pass through workgroup
// memory, channel by channel, the weights dequantised once a tile (16 KiB in all); a thread sums TILE_M/8 tokens × 8 rows in registers.
// One z of the grid is one share of the channels (SPLIT), whose sums sum_shares.wgsl adds: for grids too small to fill a device.
// Bound by f32 multiply-adds: 64 of them for four 16-byte reads of workgroup memory at TILE_M = 64.
const QUADS_M = u32(TILE_M) / 4u;
var<workgroup> tileX: array<vec4<f32>, 32 * TILE_M / 4>;
var<workgroup> tileW: array<vec4<f32>, 32 * 16>;

alias Sums = vec4<f32>;
fn valueOf(sums: Sums, share: u32, token: u32, quad: u32) -> vec4<f32> {
  return sums;
}
#include "linear_gemm_end.wgsl"

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  prepare(thread);
  let token0 = group.y * u32(TILE_M);
  let row0 = group.x * 64u;
  let cell = vec2<u32>(thread % 8u, thread / 8u);
#repeat i THREAD_M
  var low$i = vec4<f32>();
  var high$i = vec4<f32>();
#end
  let end = min((group.z + 1u) * params.splitChunks, params.chunks);
  for (var chunk = group.z * params.splitChunks; chunk < end; chunk++) {
    // A quad of tokens or rows, eight channels: read by rows, written by channels.
    for (var i = thread; i < QUADS_M * 4u; i += 64u) {
      let quad = i % QUADS_M;
      let block = i / QUADS_M;
#repeat r 4
      let a$r = min(token0 + 4u * quad + $ru, params.tokens - 1u) * params.chunks * 8u + chunk * 8u + 2u * block;
      let low$r = x[a$r];
      let high$r = x[a$r + 1u];
#end
#repeat c 4
      tileX[(8u * block + $cu) * QUADS_M + quad] = vec4<f32>(low0[$c], low1[$c], low2[$c], low3[$c]);
      tileX[(8u * block + 4u + $cu) * QUADS_M + quad] = vec4<f32>(high0[$c], high1[$c], high2[$c], high3[$c]);
#end
    }
    {
      let quad = thread % 16u;
      let block = thread / 16u;
      let weightQuad = min(row0 / 4u + quad, (params.rows - 1u) / 4u);
      let terms = termsOf(weightQuad, chunk);
#repeat r 4
      let eight$r = eight(4u * weightQuad + $ru, 4u * chunk + block, terms.zeros[$r]);
#end
#repeat c 4
      tileW[(8u * block + $cu) * 16u + quad] = vec4<f32>(eight0.low[$c], eight1.low[$c], eight2.low[$c], eight3.low[$c]) * (terms.scales * PRESCALE[$c]);
      tileW[(8u * block + 4u + $cu) * 16u + quad] = vec4<f32>(eight0.high[$c], eight1.high[$c], eight2.high[$c], eight3.high[$c]) * (terms.scales * PRESCALE[$c]);
#end
    }
    workgroupBarrier();
    for (var k = 0u; k < 32u; k++) {
      let b0 = tileW[k * 16u + cell.x];
      let b1 = tileW[k * 16u + 8u + cell.x];
#if THREAD_M_8
      let a0 = tileX[k * QUADS_M + cell.y];
      let a1 = tileX[k * QUADS_M + 8u + cell.y];
#repeat i 4
      low$i += a0[$i] * b0;
      high$i += a0[$i] * b1;
#end
      low4 += a1[0] * b0;
      high4 += a1[0] * b1;
      low5 += a1[1] * b0;
      high5 += a1[1] * b1;
      low6 += a1[2] * b0;
      high6 += a1[2] * b1;
      low7 += a1[3] * b0;
      high7 += a1[3] * b1;
#endif
#if THREAD_M_4
      let a0 = tileX[k * QUADS_M + cell.y];
#repeat i 4
      low$i += a0[$i] * b0;
      high$i += a0[$i] * b1;
#end
#endif
#if THREAD_M_2
      let quad = tileX[k * QUADS_M + cell.y / 2u];
      let a0 = select(quad.xy, quad.zw, cell.y % 2u == 1u);
#repeat i 2
      low$i += a0[$i] * b0;
      high$i += a0[$i] * b1;
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
