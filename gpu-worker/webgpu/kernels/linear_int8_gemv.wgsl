// Few tokens: as linear_gemv.wgsl, in shares of 16 channels, 16 bytes a row, by dot4I8Packed. Outliers come after: few channels have any, so
// the team looks through the masks once. Bound by bytes of weights: an instruction multiplies four.
#include "team_sum.wgsl"

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroupSize: u32,
#endif
) {
#if !SUBGROUPS
  let subgroupSize = 1u;
#endif
  let lane = thread % params.team;
  let place = group.x * (u32(THREADS) / params.team) + thread / params.team;
#if PAIR
  // The gate's rows, then those of the same outputs in the up projection.
  var gates: array<vec4<f32>, TOKENS>;
  let quads = params.end0 / 4u;
  for (var half = 0u; half < 2u; half++) {
  let quad = min(place, quads - 1u) + half * quads;
  let isLive = place < quads;
#else
  let quad = min(place, (params.rows - 1u) / 4u);
  let isLive = place == quad;
#endif
  let units = params.chunks * 2u;
#repeat t TOKENS
  let token$t = min(group.y * u32(TOKENS) + $tu, params.tokens - 1u);
  var integers$t = vec4<i32>();
#end
  for (var unit = lane; unit < units; unit += params.team) {
#repeat r 4
    let w$r = codes[(4u * quad + $ru) * units + unit];
#end
#repeat t TOKENS
    {
      let a = xCodes[token$t * units + unit];
#repeat c 4
      integers$t += vec4<i32>(dot4I8Packed(a[$c], w0[$c]), dot4I8Packed(a[$c], w1[$c]), dot4I8Packed(a[$c], w2[$c]), dot4I8Packed(a[$c], w3[$c]));
#end
    }
#end
  }
  var totals: array<vec4<f32>, TOKENS>;
  for (var t = 0u; t < u32(TOKENS); t++) {
    let token = min(group.y * u32(TOKENS) + t, params.tokens - 1u);
    var exact = vec4<f32>();
#if OUTLIERS
    for (var chunk = lane; chunk < params.chunks; chunk += params.team) { exact += outliersIn(chunk, token, quad); }
    exact = teamSum(thread, lane, subgroupSize, exact);
#endif
    totals[t] = exact;
  }
  var integers: array<vec4<i32>, TOKENS>;
#repeat t TOKENS
  integers[$t] = integers$t;
#end
  for (var t = 0u; t < u32(TOKENS); t++) {
    let token = group.y * u32(TOKENS) + t;
    totals[t] = scaled(teamSumIntegers(thread, lane, subgroupSize, integers[t]), totals[t], min(token, params.tokens - 1u), quad);
#if !PAIR
    if (lane == 0u && isLive) { putQuad(0u, token, quad, totals[t]); }
#endif
  }
#if PAIR
  if (half == 0u) {
    gates = totals;
  } else if (lane == 0u && isLive) {
    for (var t = 0u; t < u32(TOKENS); t++) { putPair(group.y * u32(TOKENS) + t, place, gates[t], totals[t]); }
  }
  }
#endif
}
