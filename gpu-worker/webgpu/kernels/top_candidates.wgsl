// The KEPT highest of every CHUNK values of a row, highest first, lower id first among equals; run again over its own output until one chunk
// a row is left. values [rows, cols] f32, ids [rows, cols] u32 (FIRST: a value's id is its column); outputs [rows, chunks · kept] with
// kept = min(KEPT, CHUNK); places beyond the row's end get −∞ and the id 0xffffffff. Grid: chunks × rows (y, z folded).
// A bitonic sort in workgroup memory (Batcher 1968): the order is total, so the result does not depend on how it was reached.
// Reference: likeliest in core/model/top-logits.ts.
struct Params { rows: u32, cols: u32, chunks: u32, kept: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> bestValues: array<f32>;
@group(0) @binding(3) var<storage, read_write> bestIds: array<u32>;
#if !FIRST
@group(0) @binding(4) var<storage, read> ids: array<u32>;
#endif

const LOWEST = -3.4028234663852886e+38;
var<workgroup> keys: array<f32, CHUNK>;
var<workgroup> names: array<u32, CHUNK>;

fn before(a: u32, b: u32) -> bool {
  return keys[a] > keys[b] || (keys[a] == keys[b] && names[a] < names[b]);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let chunk = group.x;
  let row = group.y;
  for (var i = thread; i < u32(CHUNK); i += u32(THREADS)) {
    let col = chunk * u32(CHUNK) + i;
    keys[i] = LOWEST;
    names[i] = 0xffffffffu;
    if (col < params.cols) {
      keys[i] = max(values[row * params.cols + col], LOWEST);
#if FIRST
      names[i] = col;
#else
      names[i] = ids[row * params.cols + col];
#endif
    }
  }
  workgroupBarrier();
  for (var size = 2u; size <= u32(CHUNK); size *= 2u) {
    for (var stride = size / 2u; stride > 0u; stride /= 2u) {
      for (var pair = thread; pair < u32(CHUNK) / 2u; pair += u32(THREADS)) {
        let a = 2u * pair - (pair & (stride - 1u));
        let b = a + stride;
        let descending = (a & size) == 0u;
        if (before(b, a) == descending) {
          let key = keys[a];
          let name = names[a];
          keys[a] = keys[b];
          names[a] = names[b];
          keys[b] = key;
          names[b] = name;
        }
      }
      workgroupBarrier();
    }
  }
  for (var i = thread; i < params.kept; i += u32(THREADS)) {
    let at = (row * params.chunks + chunk) * params.kept + i;
    bestValues[at] = keys[i];
    bestIds[at] = names[i];
  }
}
