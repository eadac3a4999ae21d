// The end of a linear: y = sum + bias; GATED: y = f(gate) · (sum + bias). bias [cols] f32; gate [tokens, cols] f32. SPLIT: plain sums, one y a share.
// APART: the rows of joined weights each go to an output of their own, y [tokens, end0], y1 [tokens, end1 − end0] and APART_3: y2 [tokens, cols − end1].
// PAIR: of two joined weights, gate and up, y [tokens, end0] = f(gate's sum + bias) · (up's sum + bias).
@group(0) @binding(next) var<storage, read_write> y: array<f32>;
#if APART
@group(0) @binding(next) var<storage, read_write> y1: array<f32>;
#if APART_3
@group(0) @binding(next) var<storage, read_write> y2: array<f32>;
#endif
#endif
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>;
#endif
#if GATED
@group(0) @binding(next) var<storage, read> gate: array<f32>;
#include "activation_function.wgsl"
#endif
#if PAIR
#include "activation_function.wgsl"

/// Four outputs of one token from both weights' sums.
fn putPair(token: u32, quad: u32, gates: vec4<f32>, ups: vec4<f32>) {
  if (token >= params.tokens) { return; }
  for (var row = 4u * quad; row < 4u * quad + 4u; row++) {
    var opening = gates[row % 4u];
    var value = ups[row % 4u];
#if BIAS
    opening += bias[row];
    value += bias[params.end0 + row];
#endif
    y[token * params.end0 + row] = applied(opening) * value;
  }
}
#endif

/// Four rows' sums of one token; what lies beyond the tokens and rows is dropped.
fn putQuad(share: u32, token: u32, quad: u32, sums: vec4<f32>) {
  if (token >= params.tokens) { return; }
  for (var row = 4u * quad; row < min(4u * quad + 4u, params.rows); row++) { put(share, token, row, sums[row % 4u]); }
}

fn put(share: u32, token: u32, row: u32, sum: f32) {
  let column = params.first + row;
  var value = sum;
#if BIAS
  value += bias[column];
#endif
#if APART
  if (column < params.end0) {
    y[token * params.end0 + column] = value;
  } else if (column < params.end1) {
    y1[token * (params.end1 - params.end0) + column - params.end0] = value;
  }
#if APART_3
  if (column >= params.end1) { y2[token * (params.cols - params.end1) + column - params.end1] = value; }
#endif
#else
  let at = token * params.cols + column;
#if GATED
  value *= applied(gate[at]);
#endif
  y[share * params.tokens * params.cols + at] = value;
#endif
}
