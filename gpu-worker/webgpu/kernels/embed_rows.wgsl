// Rows of a table by id, times scale: y[t, channel] = W[ids[t], channel] · scale, eight channels a thread. ids [tokens] u32 (of the whole table: those
// outside this part's rows first.. are another part's); y [tokens, inFeatures] f32. A channel lies where channels [chunks·32] u32 says (PERMUTED).
struct Params {
  tokens: u32, rows: u32, first: u32, inFeatures: u32, chunks: u32, groups: u32, groupChunks: u32, factor: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> ids: array<u32>;
@group(0) @binding(next) var<storage, read_write> y: array<f32>;
#if PERMUTED
@group(0) @binding(next) var<storage, read> channels: array<u32>;
#endif
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  let token = i / (4u * params.chunks);
  let block = i % (4u * params.chunks);
  if (token >= params.tokens) { return; }
  let id = ids[token];
  if (id < params.first || id >= params.first + params.rows) { return; }
  let row = id - params.first;
  let terms = termsOf(row / 4u, block / 4u);
  let found = eight(row, block, terms.zeros[row % 4u]);
  let scale = terms.scales[row % 4u] * PRESCALE;
#repeat c 4
  place(token, 8u * block + $cu, found.low[$c] * scale[$c]);
  place(token, 8u * block + 4u + $cu, found.high[$c] * scale[$c]);
#end
}

fn place(token: u32, at: u32, value: f32) {
#if PERMUTED
  let channel = channels[at];
#else
  let channel = at;
#endif
  if (channel < params.inFeatures) { y[token * params.inFeatures + channel] = value * params.factor; }
}
