// For every row of logits [rows, cols] f32: totals [rows, 4] f32 = its maximum m, Σ exp(logit − m), Σ exp((logit − m) / temperature) with
// temperatures [rows] f32 (1 where it is 0), and 1 if a logit is not a number, else 0. One workgroup a row; a tree in a fixed order.
// NaN is told by its bits: shader compilers may assume that it does not occur. Reference: logTotal in core/model/top-logits.ts.
struct Params { rows: u32, cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> temperatures: array<f32>;
@group(0) @binding(3) var<storage, read_write> totals: array<f32>;
#include "place.wgsl"
#include "reduce_sum.wgsl"

const LOWEST = -3.4028234663852886e+38;
var<workgroup> highest: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = groupIndex(group, groups);
  if (row >= params.rows) { return; }
  var most = LOWEST;
  var broken = 0.0;
  for (var i = thread; i < params.cols; i += u32(THREADS)) {
    let bits = logits[row * params.cols + i];
    if ((bits & 0x7fffffffu) > 0x7f800000u) { broken = 1.0; } else { most = max(most, bitcast<f32>(bits)); }
  }
  highest[thread] = most;
  workgroupBarrier();
  for (var width = u32(THREADS) / 2u; width > 0u; width /= 2u) {
    if (thread < width) { highest[thread] = max(highest[thread], highest[thread + width]); }
    workgroupBarrier();
  }
  let maximum = highest[0];
  let temperature = select(temperatures[row], 1.0, temperatures[row] == 0.0);
  var sum = 0.0;
  var scaled = 0.0;
  for (var i = thread; i < params.cols; i += u32(THREADS)) {
    let below = bitcast<f32>(logits[row * params.cols + i]) - maximum;
    sum += exp(below);
    scaled += exp(below / temperature);
  }
  let total = workgroupSum(thread, sum);
  let scaledTotal = workgroupSum(thread, scaled);
  let anyBroken = workgroupSum(thread, broken);
  if (thread == 0u) {
    totals[4u * row] = maximum;
    totals[4u * row + 1u] = total;
    totals[4u * row + 2u] = scaledTotal;
    totals[4u * row + 3u] = anyBroken;
  }
}
