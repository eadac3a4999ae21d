// rope_kv: per token and head, for i < rotaryDim / 2 = half: (a, b) = (v[i], v[i + half]) becomes (a cos[i] - b sin[i], b cos[i] + a sin[i]),
// for q and k in place; then k and v go to their slots in the pages.
//   q         [tokens, heads * headDim] f32
//   k, v      [tokens, kvHeads * headDim] f32
//   cos, sin  [tokens, half] f32
//   slots     [tokens] i32, page * pageTokens + offset, checked by the caller
//   keyPages, valuePages  [pages, kvHeads, pageTokens, headDim] f32: one layer's; a head's tokens are neighbours for attention
// Any half and headDim. Each output is two products and one sum: no order to choose.
// Reference: test/wasm/oracle.ts, rope.

@inline function rotate(v: usize, cos: usize, sin: usize, heads: i32, headDim: i32, half: i32): void {
  const bytes = <usize>half << 2, whole = bytes & ~15;
  for (let head = 0; head < heads; head++, v += <usize>headDim << 2) {
    const other = v + bytes;
    for (let i: usize = 0; i < whole; i += 16) {
      const a = v128.load(v + i), b = v128.load(other + i), c = v128.load(cos + i), s = v128.load(sin + i);
      v128.store(v + i, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
      v128.store(other + i, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
    }
    for (let i = whole; i < bytes; i += 4) {
      const a = load<f32>(v + i), b = load<f32>(other + i), c = load<f32>(cos + i), s = load<f32>(sin + i);
      store<f32>(v + i, a * c - b * s);
      store<f32>(other + i, b * c + a * s);
    }
  }
}

export function rope_kv(q: usize, k: usize, v: usize, cos: usize, sin: usize, slots: usize, keyPages: usize, valuePages: usize, tokens: i32, heads: i32, kvHeads: i32, headDim: i32, half: i32, pageTokens: i32): void {
  const headBytes = <usize>headDim << 2;
  for (let token = 0; token < tokens; token++) {
    rotate(q, cos, sin, heads, headDim, half);
    rotate(k, cos, sin, kvHeads, headDim, half);
    const slot = load<i32>(slots), page = slot / pageTokens, offset = slot % pageTokens;
    let place = (<usize>page * <usize>kvHeads * <usize>pageTokens + <usize>offset) * headBytes;
    for (let head = 0; head < kvHeads; head++, place += <usize>pageTokens * headBytes, k += headBytes, v += headBytes) {
      memory.copy(keyPages + place, k, headBytes);
      memory.copy(valuePages + place, v, headBytes);
    }
    q += <usize>heads * headBytes;
    cos += <usize>half << 2;
    sin += <usize>half << 2;
    slots += 4;
  }
}
