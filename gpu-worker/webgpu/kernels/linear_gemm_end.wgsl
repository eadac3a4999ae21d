// The end of a tile's sums of linear_gemm.wgsl and linear_int8_gemm.wgsl, which say what `Sums` of four rows are and what they come to.
fn finish(group: vec3<u32>, cell: vec2<u32>, lows: ptr<function, array<Sums, THREAD_M>>, highs: ptr<function, array<Sums, THREAD_M>>) {
  let token0 = group.y * u32(TILE_M);
  let quad = group.x * 16u + cell.x;
  for (var i = 0u; i < u32(THREAD_M); i++) {
#if THREAD_M_2
    let token = token0 + 2u * cell.y + i;
#else
    // The fifth and on lie 32 further, as the second four rows do.
    let token = token0 + 4u * cell.y + i + select(0u, 28u, i >= 4u);
#endif
    if (token >= params.tokens) { continue; }
    putQuad(group.z, token, quad, valueOf((*lows)[i], group.z, token, quad));
    putQuad(group.z, token, quad + 8u, valueOf((*highs)[i], group.z, token, quad + 8u));
  }
}
