// tile: four tokens times an unpacked block of 8 rows (unpack_block.ts), eight sums of 4 rows at once: each activation that is loaded meets two
// vectors of weights, each vector of weights four tokens. V8 has 15 vector registers to give: the inner loop is one octet, which takes 14, and
// the f32 sums lie in memory between chunks, or it would spill the integer ones.
//   block   unpack_block.ts
//   x8      [octets, 8 or, wide, 16 bytes / 4, 4 tokens] of 4 bytes, xScale and minusSum [chunks, 4 tokens]: quantize_rows with `together` 4
//   sums    [4 tokens, 8] f32, scratch
//   y       [tokens, rows], the first of `tokens` <= 4 rows; count: rows of the block that there are; factor: ends each sum
// Order of accumulation: linear_chunks.ts.

import { storeLanes } from './lanes';

/** Tokens of one tile. wasm/linear.ts knows it too. */
export const TILE_TOKENS = 4;

@inline function scaled(sums: usize, sum: v128, scale: v128, xScale: v128): v128 {
  return f32x4.add(v128.load(sums), f32x4.mul(f32x4.convert_i32x4_s(sum), f32x4.mul(scale, xScale)));
}

@inline function madd(sum: v128, x: v128, w: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(w, x));
}

/** sums of one token += its chunk's. */
@inline function addScaled(sums: usize, a: v128, b: v128, scale0: v128, scale1: v128, xScale: v128): void {
  v128.store(sums, scaled(sums, a, scale0, xScale));
  v128.store(sums + 16, scaled(sums + 16, b, scale1, xScale));
}

function finish(sums: usize, y: usize, rows: i32, count: i32, tokens: i32, factor: f32, bias: usize): void {
  const factor4 = f32x4.splat(factor);
  for (; tokens > 0; tokens--, sums += 32, y += <usize>rows << 2) {
    storeLanes(y, f32x4.add(f32x4.mul(v128.load(sums), factor4), v128.load(bias)), count);
    storeLanes(y + 16, f32x4.add(f32x4.mul(v128.load(sums, 16), factor4), v128.load(bias, 16)), count - 4);
  }
}

/** Weights as unsigned bytes below 128, activations i8. eights: every zero point is 8. In the plain build it is never called. */
export function narrowTile(block: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, eights: bool, groupOctets: usize, sums: usize, y: usize, rows: i32, count: i32, tokens: i32, groups: i32, factor: f32): void {
  if (!ASC_FEATURE_RELAXED_SIMD) return;
  memory.fill(sums, 0, 128);
  let scales = block, w = block + (<usize>groups << 6), zeros = block + (<usize>groups << 5);
  for (const lastGroup = groupOctets + (<usize>groups << 2); groupOctets < lastGroup; groupOctets += 4, scales += 32, zeros += 32) {
    for (let left = load<i32>(groupOctets); left > 0; left -= 4, xScale += 16, minusSum += 16) {
      let w0: v128, w1: v128, v: v128, a0: v128, b0: v128, a1: v128, b1: v128, a2: v128, b2: v128, a3: v128, b3: v128;
      if (eights) {
        a0 = b0 = i32x4.shl(v128.load32_splat(minusSum, 0), 3);
        a1 = b1 = i32x4.shl(v128.load32_splat(minusSum, 4), 3);
        a2 = b2 = i32x4.shl(v128.load32_splat(minusSum, 8), 3);
        a3 = b3 = i32x4.shl(v128.load32_splat(minusSum, 12), 3);
      } else {
        w0 = v128.load(zeros); w1 = v128.load(zeros, 16);
        v = v128.load32_splat(minusSum, 0); a0 = i32x4.dot_i16x8_s(w0, v); b0 = i32x4.dot_i16x8_s(w1, v);
        v = v128.load32_splat(minusSum, 4); a1 = i32x4.dot_i16x8_s(w0, v); b1 = i32x4.dot_i16x8_s(w1, v);
        v = v128.load32_splat(minusSum, 8); a2 = i32x4.dot_i16x8_s(w0, v); b2 = i32x4.dot_i16x8_s(w1, v);
        v = v128.load32_splat(minusSum, 12); a3 = i32x4.dot_i16x8_s(w0, v); b3 = i32x4.dot_i16x8_s(w1, v);
      }
      for (const end = w + (<usize>min(left, 4) << 6); w < end; w += 64, x += 32) {
        w0 = v128.load(w, 0); w1 = v128.load(w, 16);
        v = v128.load32_splat(x, 0); a0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a0); b0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b0);
        v = v128.load32_splat(x, 4); a1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a1); b1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b1);
        v = v128.load32_splat(x, 8); a2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a2); b2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b2);
        v = v128.load32_splat(x, 12); a3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a3); b3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b3);
        w0 = v128.load(w, 32); w1 = v128.load(w, 48);
        v = v128.load32_splat(x, 16); a0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a0); b0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b0);
        v = v128.load32_splat(x, 20); a1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a1); b1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b1);
        v = v128.load32_splat(x, 24); a2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a2); b2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b2);
        v = v128.load32_splat(x, 28); a3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a3); b3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b3);
      }
      w0 = v128.load(scales); w1 = v128.load(scales, 16);
      v = v128.load32_splat(xScale, 0); addScaled(sums, a0, b0, w0, w1, v);
      v = v128.load32_splat(xScale, 4); addScaled(sums + 32, a1, b1, w0, w1, v);
      v = v128.load32_splat(xScale, 8); addScaled(sums + 64, a2, b2, w0, w1, v);
      v = v128.load32_splat(xScale, 12); addScaled(sums + 96, a3, b3, w0, w1, v);
    }
  }
  finish(sums, y, rows, count, tokens, factor, bias);
}

/** Weights as i16 without zero points, activations i16. */
export function wideTile(block: usize, bias: usize, x: usize, xScale: usize, groupOctets: usize, sums: usize, y: usize, rows: i32, count: i32, tokens: i32, groups: i32, factor: f32): void {
  memory.fill(sums, 0, 128);
  let scales = block, w = block + (<usize>groups << 6);
  for (const lastGroup = groupOctets + (<usize>groups << 2); groupOctets < lastGroup; groupOctets += 4, scales += 32) {
    for (let left = load<i32>(groupOctets); left > 0; left -= 4, xScale += 16) {
      let w0: v128, w1: v128, v: v128;
      let a0 = i32x4.splat(0), b0 = a0, a1 = i32x4.splat(0), b1 = a1, a2 = i32x4.splat(0), b2 = a2, a3 = i32x4.splat(0), b3 = a3;
      for (const end = w + (<usize>min(left, 4) << 7); w < end; w += 128, x += 64) {
        w0 = v128.load(w, 0); w1 = v128.load(w, 32);
        v = v128.load32_splat(x, 0); a0 = madd(a0, v, w0); b0 = madd(b0, v, w1);
        v = v128.load32_splat(x, 4); a1 = madd(a1, v, w0); b1 = madd(b1, v, w1);
        v = v128.load32_splat(x, 8); a2 = madd(a2, v, w0); b2 = madd(b2, v, w1);
        v = v128.load32_splat(x, 12); a3 = madd(a3, v, w0); b3 = madd(b3, v, w1);
        w0 = v128.load(w, 16); w1 = v128.load(w, 48);
        v = v128.load32_splat(x, 16); a0 = madd(a0, v, w0); b0 = madd(b0, v, w1);
        v = v128.load32_splat(x, 20); a1 = madd(a1, v, w0); b1 = madd(b1, v, w1);
        v = v128.load32_splat(x, 24); a2 = madd(a2, v, w0); b2 = madd(b2, v, w1);
        v = v128.load32_splat(x, 28); a3 = madd(a3, v, w0); b3 = madd(b3, v, w1);
        w0 = v128.load(w, 64); w1 = v128.load(w, 96);
        v = v128.load32_splat(x, 32); a0 = madd(a0, v, w0); b0 = madd(b0, v, w1);
        v = v128.load32_splat(x, 36); a1 = madd(a1, v, w0); b1 = madd(b1, v, w1);
        v = v128.load32_splat(x, 40); a2 = madd(a2, v, w0); b2 = madd(b2, v, w1);
        v = v128.load32_splat(x, 44); a3 = madd(a3, v, w0); b3 = madd(b3, v, w1);
        w0 = v128.load(w, 80); w1 = v128.load(w, 112);
        v = v128.load32_splat(x, 48); a0 = madd(a0, v, w0); b0 = madd(b0, v, w1);
        v = v128.load32_splat(x, 52); a1 = madd(a1, v, w0); b1 = madd(b1, v, w1);
        v = v128.load32_splat(x, 56); a2 = madd(a2, v, w0); b2 = madd(b2, v, w1);
        v = v128.load32_splat(x, 60); a3 = madd(a3, v, w0); b3 = madd(b3, v, w1);
      }
      w0 = v128.load(scales); w1 = v128.load(scales, 16);
      v = v128.load32_splat(xScale, 0); addScaled(sums, a0, b0, w0, w1, v);
      v = v128.load32_splat(xScale, 4); addScaled(sums + 32, a1, b1, w0, w1, v);
      v = v128.load32_splat(xScale, 8); addScaled(sums + 64, a2, b2, w0, w1, v);
      v = v128.load32_splat(xScale, 12); addScaled(sums + 96, a3, b3, w0, w1, v);
    }
  }
  finish(sums, y, rows, count, tokens, factor, bias);
}
