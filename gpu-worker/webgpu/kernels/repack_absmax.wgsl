// bitsandbytes' absmax by block → by quads of rows, see bnb4_format.wgsl. A row has `groups` groups of groupChannels channels, each within one block.
// CODES: u8 codes as they are, [rows/4][groups][4] u8; otherwise f32 [rows/4][groups][4]: values[block], or of NESTED ones
// table[16 + code] · nested[block ÷ nestedBlock] + nestedOffset. Blocks are counted from the first that was brought, firstBlock of the weight, and
// blockOffset values of that one belong to earlier rows. One thread a quad and group.
struct Params {
  rows: u32, firstQuad: u32, groups: u32, groupChannels: u32, inFeatures: u32, blockSize: u32, blockOffset: u32,
  firstBlock: u32, nestedBlock: u32, nestedOffset: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
#if NESTED
@group(0) @binding(next) var<storage, read> codes: array<u32>;
@group(0) @binding(next) var<storage, read> tables: array<f32>;
@group(0) @binding(next) var<storage, read> nested: array<f32>;
#else
@group(0) @binding(next) var<storage, read> values: array<f32>;
#endif
#if CODES
@group(0) @binding(next) var<storage, read_write> scales: array<u32>;
#else
@group(0) @binding(next) var<storage, read_write> scales: array<vec4<f32>>;
#endif
#include "place.wgsl"

fn codeOf(block: u32) -> u32 {
#if NESTED
  return (codes[block / 4u] >> (8u * (block % 4u))) & 255u;
#else
  return 0u;
#endif
}

fn absmaxOf(block: u32) -> f32 {
#if NESTED
  return tables[16u + codeOf(block)] * nested[(params.firstBlock + block) / params.nestedBlock] + params.nestedOffset;
#else
  return values[block];
#endif
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  let quads = (params.rows + 3u) / 4u;
  if (i >= quads * params.groups) { return; }
  let channel = (i % params.groups) * params.groupChannels;
#repeat r 4
  let row$r = min(4u * (i / params.groups) + $ru, params.rows - 1u);
  let block$r = (params.blockOffset + row$r * params.inFeatures + channel) / params.blockSize;
  let has$r = 4u * (i / params.groups) + $ru < params.rows;
#end
  let at = params.firstQuad * params.groups + i;
#if CODES
  scales[at] = select(0u, codeOf(block0), has0) | (select(0u, codeOf(block1), has1) << 8u) | (select(0u, codeOf(block2), has2) << 16u) | (select(0u, codeOf(block3), has3) << 24u);
#else
  scales[at] = vec4<f32>(select(0.0, absmaxOf(block0), has0), select(0.0, absmaxOf(block1), has1), select(0.0, absmaxOf(block2), has2), select(0.0, absmaxOf(block3), has3));
#endif
}
