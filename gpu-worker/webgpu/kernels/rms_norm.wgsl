// y = x / √(mean(x²) + eps) · weight, per row. RESIDUAL: residual += x first, and residual is what is normed.
// x, y, residual [rows, cols] f32; weight [cols] f32. One workgroup a row; each thread sums every THREADS-th value in order, then a tree.
// Reference: rmsNormRows in core/model/reference-rows.ts.
#include "norm_rows.wgsl"
#if RESIDUAL
@group(0) @binding(next) var<storage, read_write> residual: array<f32>;
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = groupIndex(group, groups);
  if (row >= params.rows) { return; }
  let start = row * params.cols;
  var squares = 0.0;
  for (var i = thread; i < params.cols; i += u32(THREADS)) {
#if RESIDUAL
    let value = residual[start + i] + x[start + i];
    residual[start + i] = value;
#else
    let value = x[start + i];
#endif
    squares += value * value;
  }
  let inverse = 1.0 / sqrt(workgroupSum(thread, squares) / f32(params.cols) + params.eps);
  // Each thread reads back only what it wrote itself.
  for (var i = thread; i < params.cols; i += u32(THREADS)) {
#if RESIDUAL
    y[start + i] = residual[start + i] * inverse * weight[i];
#else
    y[start + i] = x[start + i] * inverse * weight[i];
#endif
  }
}
