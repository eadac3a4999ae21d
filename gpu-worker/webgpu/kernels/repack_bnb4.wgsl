// bitsandbytes' packed codes [⌈rows·inFeatures/2⌉] u8, first value in the high half, rows one after another → codes [rows][chunks][4] u32, see bnb4_format.wgsl.
// Channels beyond inFeatures become 0. The packed rows are rows firstRow.. of the part. One thread a word.
struct Params { count: u32, firstRow: u32, chunks: u32, inFeatures: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> packed: array<u32>;
@group(0) @binding(next) var<storage, read_write> codes: array<u32>;
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i >= params.count) { return; }
  let row = i / (4u * params.chunks);
  let block = i % (4u * params.chunks);
  var word = 0u;
  for (var value = 0u; value < 8u; value++) {
    let channel = 8u * block + value;
    if (channel >= params.inFeatures) { break; }
    let at = row * params.inFeatures + channel;
    let shift = 8u * ((at / 2u) % 4u) + 4u * (1u - at % 2u);
    word |= ((packed[at / 8u] >> shift) & 15u) << (4u * value);
  }
  codes[params.firstRow * 4u * params.chunks + i] = word;
}
