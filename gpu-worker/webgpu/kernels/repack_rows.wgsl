// Rows of rowBytes bytes, one after another, → rows of rowWords words, zeros at their ends. raw [rows·rowBytes] u8, packed [rows][rowWords] u32;
// the raw rows are rows firstRow.. of the part. For plain and int8 weights whose rows are no whole chunks. One thread a word.
struct Params { count: u32, firstRow: u32, rowBytes: u32, rowWords: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> raw: array<u32>;
@group(0) @binding(next) var<storage, read_write> packed: array<u32>;
#include "place.wgsl"

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = groupIndex(group, groups) * u32(THREADS) + thread;
  if (i >= params.count) { return; }
  var word = 0u;
  for (var byte = 0u; byte < 4u; byte++) {
    let column = 4u * (i % params.rowWords) + byte;
    if (column >= params.rowBytes) { break; }
    let at = (i / params.rowWords) * params.rowBytes + column;
    word |= ((raw[at / 4u] >> (8u * (at % 4u))) & 255u) << (8u * byte);
  }
  packed[params.firstRow * params.rowWords + i] = word;
}
