// ROUNDS of eight independent chains of fma on vec4 in f32 (HALF: f16) registers, no memory but one store a thread: the rate of plain
// multiply-adds. 64 operations a round and thread. y [threads] f32.
#if HALF
enable f16;
#endif
struct Params { count: u32, rounds: u32, factor: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
#include "place.wgsl"
#if HALF
alias Lanes = vec4<f16>;
alias Lane = f16;
#else
alias Lanes = vec4<f32>;
alias Lane = f32;
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let place = groupIndex(group, groups) * u32(THREADS) + thread;
  // Known only at run time, so that nothing is folded away.
  let factor = Lanes(Lane(params.factor));
  let start = Lane(f32(thread) * 0.001);
  var a = Lanes(start);
  var b = a + factor;
  var c = b + factor;
  var d = c + factor;
  var e = d + factor;
  var f = e + factor;
  var g = f + factor;
  var h = g + factor;
  for (var round = 0u; round < params.rounds; round++) {
    a = fma(a, factor, factor);
    b = fma(b, factor, factor);
    c = fma(c, factor, factor);
    d = fma(d, factor, factor);
    e = fma(e, factor, factor);
    f = fma(f, factor, factor);
    g = fma(g, factor, factor);
    h = fma(h, factor, factor);
  }
  let sum = a + b + c + d + e + f + g + h;
  if (place < params.count) { y[place] = f32(sum.x + sum.y + sum.z + sum.w); }
}
