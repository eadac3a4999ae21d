// rope_kv: per token and head, for i < rotaryDim / 2 = half: (a, b) = (v[i], v[i + half]) becomes (a cos[i] - b sin[i], b cos[i] + a sin[i]),
// for q and k in place; then k and v go to their slots in the pages.
//   q         [tokens, heads * headDim] f32
//   k, v      [tokens, kvHeads * headDim] f32
//   cos, sin  [tokens, half] f32
//   slots     [tokens] i32, page * pageTokens + offset, checked by the caller
//   keyPages, valuePages, keyScales, valueScales, dtype  one layer's: key_value.ts; a head's tokens are neighbours for attention
// Any half and headDim. Each output is two products and one sum: no order to choose. Split by tokens.
// Reference: test/wasm/oracle.ts, rope.

import { elementShift, storeRow } from './key_value';
import { share } from './task';

function rotate(v: usize, cos: usize, sin: usize, heads: i32, headDim: i32, half: i32): void {
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

export function rope_kv(task: usize, part: i32, parts: i32): void {
  const keyPages = load<usize>(task, 24), valuePages = load<usize>(task, 28), keyScales = load<usize>(task, 32), valueScales = load<usize>(task, 36);
  const tokens = load<i32>(task, 40), heads = load<i32>(task, 44), kvHeads = load<i32>(task, 48), headDim = load<i32>(task, 52), half = load<i32>(task, 56);
  const pageTokens = load<u32>(task, 60), dtype = load<i32>(task, 64);
  const first = share(tokens, part, parts), end = share(tokens, part + 1, parts);
  const headBytes = <usize>headDim << 2, rowBytes = <usize>(headDim + 3 & ~3) << elementShift(dtype);
  let q = load<usize>(task) + <usize>first * heads * headBytes, k = load<usize>(task, 4) + <usize>first * kvHeads * headBytes, v = load<usize>(task, 8) + <usize>first * kvHeads * headBytes;
  let cos = load<usize>(task, 12) + (<usize>first * half << 2), sin = load<usize>(task, 16) + (<usize>first * half << 2), slots = load<usize>(task, 20) + (<usize>first << 2);
  for (let token = first; token < end; token++) {
    rotate(q, cos, sin, heads, headDim, half);
    rotate(k, cos, sin, kvHeads, headDim, half);
    const slot = load<u32>(slots);
    let row = <usize>(slot / pageTokens * kvHeads * pageTokens + slot % pageTokens);
    for (let head = 0; head < kvHeads; head++, row += pageTokens, k += headBytes, v += headBytes) {
      storeRow(dtype, k, keyPages + row * rowBytes, keyScales + (row << 2), headDim);
      storeRow(dtype, v, valuePages + row * rowBytes, valueScales + (row << 2), headDim);
    }
    q += <usize>heads * headBytes;
    cos += <usize>half << 2;
    sin += <usize>half << 2;
    slots += 4;
  }
}
