// c += SIGN · aᵀ · b in tiles of 32 × 32 by 64 threads, 16 terms at a time: quantization's sums of products (arXiv:2210.17323).
//   a  [terms, left] f32, or TRANSPOSED [left, terms]; rows leftStride apart, from value leftAt on
//   b  [terms, right] f32
//   c  [left, right] f32; UPPER: only tiles on and above the diagonal, where left = right
// Grid: ceil(right / 32) × ceil(left / 32) workgroups. Nothing must divide anything: what lies beyond an edge counts as 0.
// A thread sums 4 × 4 values in f32 registers over all terms, in order, and adds them to c at the end. Both tiles pass through workgroup
// memory (4 KiB). Hessian: a = b = x [tokens, columns]; trailing update: a = U's rows of a block, b = its errors; energy: a = H, b = M.
// Reference: gpu-worker/quantize/reference-kernels.ts.
struct Params { left: u32, right: u32, terms: u32, leftStride: u32, leftAt: u32, outAt: u32, sign: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(next) var<storage, read> a: array<f32>;
@group(0) @binding(next) var<storage, read> b: array<f32>;
@group(0) @binding(next) var<storage, read_write> c: array<f32>;
const TERMS = 16u;
var<workgroup> tileA: array<vec4<f32>, TERMS * 8>;
var<workgroup> tileB: array<vec4<f32>, TERMS * 8>;

fn left(term: u32, column: u32) -> f32 {
  if (term >= params.terms || column >= params.left) { return 0.0; }
#if TRANSPOSED
  return a[params.leftAt + column * params.leftStride + term];
#else
  return a[params.leftAt + term * params.leftStride + column];
#endif
}

fn right(term: u32, column: u32) -> f32 {
  if (term >= params.terms || column >= params.right) { return 0.0; }
  return b[term * params.right + column];
}

fn add(row: u32, column: u32, values: vec4<f32>) {
  if (row >= params.left) { return; }
  let at = params.outAt + row * params.right + column;
#repeat i 4
  if (column + $iu < params.right) { c[at + $iu] += params.sign * values[$i]; }
#end
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let left0 = group.y * 32u;
  let right0 = group.x * 32u;
#if UPPER
  if (right0 < left0) { return; }
#endif
  let cell = vec2<u32>(thread % 8u, thread / 8u);
#repeat i 4
  var sum$i = vec4<f32>();
#end
  for (var term0 = 0u; term0 < params.terms; term0 += TERMS) {
    workgroupBarrier();
    for (var i = thread; i < TERMS * 8u; i += 64u) {
      let term = term0 + i / 8u;
      let at = 4u * (i % 8u);
      tileA[i] = vec4<f32>(left(term, left0 + at), left(term, left0 + at + 1u), left(term, left0 + at + 2u), left(term, left0 + at + 3u));
      tileB[i] = vec4<f32>(right(term, right0 + at), right(term, right0 + at + 1u), right(term, right0 + at + 2u), right(term, right0 + at + 3u));
    }
    workgroupBarrier();
    for (var term = 0u; term < TERMS; term++) {
      let x = tileA[term * 8u + cell.y];
      let y = tileB[term * 8u + cell.x];
#repeat i 4
      sum$i += x[$i] * y;
#end
    }
  }
#repeat i 4
  add(left0 + 4u * cell.y + $iu, right0 + 4u * cell.x, sum$i);
#end
}
