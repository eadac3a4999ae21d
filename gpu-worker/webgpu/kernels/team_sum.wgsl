// Sums over teams: params.team neighbouring threads, a power of two. A thread's sum is right where lane, its place in the team, is 0.
// SUBGROUPS: by subgroupAdd, without a barrier when a team is a subgroup; JOIN: a team is one or several subgroups, whose sums meet in workgroup
// memory. Without: a tree in workgroup memory. Subgroups are neighbouring threads: subgroup-layout.ts asks the adapter before it is relied on.
#if SUBGROUPS
enable subgroups;
#endif
#if SUBGROUPS
#if JOIN
var<workgroup> partial: array<vec4<f32>, THREADS>;
#if INTEGERS
var<workgroup> partialIntegers: array<vec4<i32>, THREADS>;
#endif
#endif
#else
var<workgroup> partial: array<vec4<f32>, THREADS>;
#if INTEGERS
var<workgroup> partialIntegers: array<vec4<i32>, THREADS>;
#endif
#endif

fn teamSum(thread: u32, lane: u32, subgroupSize: u32, value: vec4<f32>) -> vec4<f32> {
#if SUBGROUPS
  var total = subgroupAdd(value);
#if JOIN
  if (thread % subgroupSize == 0u) { partial[thread / subgroupSize] = total; }
  workgroupBarrier();
  let first = (thread - lane) / subgroupSize;
  total = partial[first];
  for (var other = 1u; other < params.team / subgroupSize; other++) { total += partial[first + other]; }
  workgroupBarrier();
#endif
  return total;
#else
  partial[thread] = value;
  workgroupBarrier();
  for (var width = params.team / 2u; width > 0u; width /= 2u) {
    if (lane < width) { partial[thread] += partial[thread + width]; }
    workgroupBarrier();
  }
  let total = partial[thread];
  workgroupBarrier();
  return total;
#endif
}

#if INTEGERS
fn teamSumIntegers(thread: u32, lane: u32, subgroupSize: u32, value: vec4<i32>) -> vec4<i32> {
#if SUBGROUPS
  var total = subgroupAdd(value);
#if JOIN
  if (thread % subgroupSize == 0u) { partialIntegers[thread / subgroupSize] = total; }
  workgroupBarrier();
  let first = (thread - lane) / subgroupSize;
  total = partialIntegers[first];
  for (var other = 1u; other < params.team / subgroupSize; other++) { total += partialIntegers[first + other]; }
  workgroupBarrier();
#endif
  return total;
#else
  partialIntegers[thread] = value;
  workgroupBarrier();
  for (var width = params.team / 2u; width > 0u; width /= 2u) {
    if (lane < width) { partialIntegers[thread] += partialIntegers[thread + width]; }
    workgroupBarrier();
  }
  let total = partialIntegers[thread];
  workgroupBarrier();
  return total;
#endif
}
#endif
