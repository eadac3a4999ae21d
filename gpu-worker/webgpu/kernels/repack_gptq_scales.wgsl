// GPTQ's scales [sourceGroups][cols] f16 and qzeros [sourceGroups][zeroWords] u32 (packed along the outputs) → scales [rows/4][groups][4] f16 and
// zeros [rows/4][groups][4] u8 (not SYM), see gptq_format.wgsl. cols is even: of an odd number the last is padding. A zero is (stored + zeroOffset) within
// BITS bits. Group g is the checkpoint's group sources[g] (MAPPED) or g. One thread a quad and group.
struct Params { cols: u32, halves: u32, firstQuad: u32, groups: u32, zeroWords: u32, zeroOffset: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> scalesIn: array<u32>;
@group(0) @binding(next) var<storage, read_write> scales: array<vec2<u32>>;
#if !SYM
@group(0) @binding(next) var<storage, read> qzeros: array<u32>;
@group(0) @binding(next) var<storage, read_write> zeros: array<u32>;
#endif
#if MAPPED
@group(0) @binding(next) var<storage, read> sources: array<u32>;
#endif
#include "place.wgsl"

fn scaleOf(group: u32, col: u32) -> u32 {
  if (col >= params.cols) { return 0u; }
  let at = group * params.halves + col;
  return (scalesIn[at / 2u] >> (16u * (at % 2u))) & 0xffffu;
}

#if !SYM
fn zeroOf(group: u32, col: u32) -> u32 {
  if (col >= params.cols) { return 0u; }
  let bit = col * u32(BITS);
  let at = group * params.zeroWords + bit / 32u;
  var stored = qzeros[at] >> (bit % 32u);
  if (bit % 32u + u32(BITS) > 32u) { stored |= qzeros[at + 1u] << (32u - bit % 32u); }
  return (stored + params.zeroOffset) & ((1u << u32(BITS)) - 1u);
}
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  let quads = (params.cols + 3u) / 4u;
  if (i >= quads * params.groups) { return; }
  let col = 4u * (i / params.groups);
  let g = i % params.groups;
#if MAPPED
  let source = sources[g];
#else
  let source = g;
#endif
  let at = (params.firstQuad + i / params.groups) * params.groups + g;
  scales[at] = vec2<u32>(
    scaleOf(source, col) | (scaleOf(source, col + 1u) << 16u),
    scaleOf(source, col + 2u) | (scaleOf(source, col + 3u) << 16u),
  );
#if !SYM
  zeros[at] = zeroOf(source, col) | (zeroOf(source, col + 1u) << 8u) | (zeroOf(source, col + 2u) << 16u) | (zeroOf(source, col + 3u) << 24u);
#endif
}
