// The end of a linear: y = sum + bias; GATED: y = f(gate) · (sum + bias). bias [cols] f32; gate [tokens, cols] f32. SPLIT: plain sums, one y a share.
@group(0) @binding(next) var<storage, read_write> y: array<f32>;
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>;
#endif
#if GATED
@group(0) @binding(next) var<storage, read> gate: array<f32>;
#include "activation_function.wgsl"
#endif

/// Four rows' sums of one token; what lies beyond the tokens and rows is dropped.
fn putQuad(share: u32, token: u32, quad: u32, sums: vec4<f32>) {
  if (token >= params.tokens) { return; }
  for (var row = 4u * quad; row < min(4u * quad + 4u, params.rows); row++) { put(share, token, row, sums[row % 4u]); }
}

fn put(share: u32, token: u32, row: u32, sum: f32) {
  let column = params.first + row;
  let at = token * params.cols + column;
  var value = sum;
#if BIAS
  value += bias[column];
#endif
#if GATED
  value *= applied(gate[at]);
#endif
  y[share * params.tokens * params.cols + at] = value;
}
