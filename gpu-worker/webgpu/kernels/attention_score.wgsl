// A score from q·k: times scale, soft-capped if SOFTCAP, plus ALiBi's slope · distance (slopes [heads] f32, zeros without ALiBi;
// distance = key position − query position). Reference: scoreOf in core/model/reference-attention.ts.
#if SOFTCAP
#include "tanh_exact.wgsl"
#endif
const LOWEST = -3.4028234663852886e+38;

fn scoreOf(product: f32, slope: f32, distance: f32) -> f32 {
  var score = product * params.scale;
#if SOFTCAP
  score = params.softcap * tanhExact(score / params.softcap);
#endif
  return score + slope * distance;
}
