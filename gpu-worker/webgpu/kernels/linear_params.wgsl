// What every linear kernel is told. Weights lie in rows (outputs) of `chunks` chunks of 32 channels, rows padded to quads of four.
// x [tokens][chunks·32] f32; y [tokens][cols] f32, whose columns first.. are these rows: a large weight comes in several parts.
struct Params {
  tokens: u32,
  rows: u32,
  first: u32,
  cols: u32,
  chunks: u32,
  /// Scales along a row, and the chunks that share one.
  groups: u32,
  groupChunks: u32,
  /// gemv: threads that share a quad of rows, a power of two.
  team: u32,
  /// gemm: chunks of one share of the channels; each share has its own y.
  splitChunks: u32,
#if JOINED
  /// Rows of several weights, one after another: where the first's and the second's end.
  end0: u32,
  end1: u32,
#endif
#if BNB4
  inFeatures: u32,
  blockSize: u32,
  /// Values of the weight before this part: all of them, and within their block.
  firstBlock: u32,
  blockOffset: u32,
  nestedBlock: u32,
  nestedOffset: f32,
#if JOINED
  /// The second and the third weight's, counted as if their rows began at 0.
  firstBlock1: u32,
  nestedOffset1: f32,
  firstBlock2: u32,
  nestedOffset2: f32,
#endif
#endif
#if THRESHOLD
  inFeatures: u32,
#endif
}
@group(0) @binding(0) var<uniform> params: Params;
