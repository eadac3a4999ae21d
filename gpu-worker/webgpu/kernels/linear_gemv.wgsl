// Few tokens (decode): y = x · Wᵀ, weights read once for TOKENS tokens. A team of threads takes four rows and strides over their channels in
// shares of 16 bytes a row, neighbouring threads neighbouring shares; a share's products are summed before its scale is applied once; the
// team's sums meet at the end. The order of summation of an output depends on the team and the row's length alone.
// HALVES: products of f16 pairs, eight of which are summed in f16 before f32 takes over; x comes as prepare_halves.wgsl leaves it.
// Bound by: bytes of weights where a weight costs at most about five instructions (H100: 6.7e12 4-bit weights a second come from memory), so
// activations are read once for four rows and codes become floats by two; above 4 tokens by multiply-adds and activations from the L1 cache.
#if HALVES
enable f16;
/// A piece is what one load of activations brings: eight of a chunk's channels in f16, four in f32.
const CHUNK_PIECES = 4;
#else
const CHUNK_PIECES = 8;
#endif
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
  prepare(thread);
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
  let units = params.chunks * u32(CHUNK_PIECES / PIECES);
#repeat t TOKENS
  let x$t = min(group.y * u32(TOKENS) + $tu, params.tokens - 1u) * params.chunks * u32(CHUNK_PIECES);
  var sum$t = vec4<f32>();
#end
  for (var unit = lane; unit < units; unit += params.team) {
    let terms = termsOf(quad, unit * u32(PIECES) / u32(CHUNK_PIECES));
#repeat r 4
    let share$r = load(4u * quad + $ru, unit);
#end
#repeat t TOKENS
    var part$t = vec4<f32>();
#end
    // Written out for few tokens; in pairs for more, whose own unrolling is long enough.
    for (var outer = 0u; outer < u32(PIECES / UNROLLED); outer++) {
#repeat p UNROLLED
      {
        let piece = outer * u32(UNROLLED) + $pu;
#if HALVES
#repeat r 4
        let w$r = halvesOf(share$r, piece, terms.zeros[$r]);
#end
#repeat t TOKENS
        {
          let a = x[x$t + unit * u32(PIECES) + piece];
          part$t += vec4<f32>(dotOfHalves(a, w0), dotOfHalves(a, w1), dotOfHalves(a, w2), dotOfHalves(a, w3));
        }
#end
#else
#repeat r 4
        let w$r = values(share$r, piece, terms.zeros[$r], 4u * quad + $ru, unit);
#end
#repeat t TOKENS
        {
          let a = x[x$t + unit * u32(PIECES) + piece] * PRESCALE;
          part$t += vec4<f32>(dot(a, w0), dot(a, w1), dot(a, w2), dot(a, w3));
        }
#end
#endif
      }
#end
    }
#repeat t TOKENS
    sum$t += part$t * terms.scales;
#end
  }
  var totals: array<vec4<f32>, TOKENS>;
#repeat t TOKENS
  totals[$t] = teamSum(thread, lane, subgroupSize, sum$t);
#if HALVES
  totals[$t] *= factors[min(group.y * u32(TOKENS) + $tu, params.tokens - 1u)];
#endif
#end
#if PAIR
  if (half == 0u) {
    gates = totals;
  } else if (lane == 0u && isLive) {
    for (var t = 0u; t < u32(TOKENS); t++) { putPair(group.y * u32(TOKENS) + t, place, gates[t], totals[t]); }
  }
  }
#else
  if (lane == 0u && isLive) {
    for (var t = 0u; t < u32(TOKENS); t++) { putQuad(0u, group.y * u32(TOKENS) + t, quad, totals[t]); }
  }
#endif
}
