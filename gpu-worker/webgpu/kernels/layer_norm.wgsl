// y = (x − mean) / √(variance + eps) · weight + bias, per row; the variance is over cols, from the centred values (two passes).
// x, y [rows, cols] f32; weight, bias [cols] f32. One workgroup a row.
// Reference: layerNormRows in core/model/reference-rows.ts.
#include "norm_rows.wgsl"
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>;
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = groupIndex(group, groups);
  if (row >= params.rows) { return; }
  let start = row * params.cols;
  var sum = 0.0;
  for (var i = thread; i < params.cols; i += u32(THREADS)) { sum += x[start + i]; }
  let mean = workgroupSum(thread, sum) / f32(params.cols);
  var squares = 0.0;
  for (var i = thread; i < params.cols; i += u32(THREADS)) {
    let centred = x[start + i] - mean;
    squares += centred * centred;
  }
  let inverse = 1.0 / sqrt(workgroupSum(thread, squares) / f32(params.cols) + params.eps);
  for (var i = thread; i < params.cols; i += u32(THREADS)) {
    var value = (x[start + i] - mean) * inverse * weight[i];
#if BIAS
    value += bias[i];
#endif
    y[start + i] = value;
  }
}
