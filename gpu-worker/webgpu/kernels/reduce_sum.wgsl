// Sum over a workgroup of THREADS (a power of two): a tree in a fixed order, so the same on every adapter.
var<workgroup> partial: array<f32, THREADS>;

fn workgroupSum(thread: u32, value: f32) -> f32 {
  partial[thread] = value;
  workgroupBarrier();
  for (var width = u32(THREADS) / 2u; width > 0u; width /= 2u) {
    if (thread < width) { partial[thread] += partial[thread + width]; }
    workgroupBarrier();
  }
  let sum = partial[0];
  workgroupBarrier();
  return sum;
}
