// tile: tokens times an unpacked block of 8 rows (unpack_block.ts): each activation that is loaded meets two vectors of weights, each vector of
// weights all tokens of the tile.
//   block   unpack_block.ts
//   x8      [octets, 8 or, wide, 16 bytes / 4, tile's tokens] of 4 bytes a tile, xScale and minusSum [chunks, tile's tokens]: quantize_rows with
//           `together` 6 or, wide, 4; tiles lie one after another, of 6 narrow ones perhaps one of 4 behind the others (inSixes)
//   sums    [6 tokens, 8] f32, scratch; zeros at first and afterwards
//   y       [tokens, rows]; count: rows of the block that there are; factor: ends each sum
// Order of accumulation: linear_chunks.ts.
// V8 has 15 vector registers to give. Narrow, six tokens take all: 12 sums, two of weights, one activation; so many chains of 4 cycles keep both
// multipliers busy, and four tokens take 5% longer each. The f32 sums lie in memory between chunks, or they would spill the integer ones. The inner loop
// is one word of 4 places, which V8 unrolls itself: written for an octet, the compiler's optimiser nests both dots of a sum, and all loads come first.
// Of the two multipliers' time the dots take 8 parts, the f32 products of each chunk 2: 0.8 of dot_limit is the most.

import { storeLanes } from './lanes';

/** Tokens of a tile; from four on they share an unpacked block. Narrow ones lie in tiles of six and what is left. wasm/linear.ts knows these too. */
export const TILE_TOKENS = 4, NARROW_TILE_TOKENS = 6;

/** f32 sums of a tile's tokens and 8 rows. wasm/linear.ts counts the same. */
export const SUMS_BYTES: usize = 32 * NARROW_TILE_TOKENS;

/** How many of `tokens` narrow ones lie in sixes, the last of which may lack one. Behind them are four in a tile of their own, or up to three alone. */
export function inSixes(tokens: i32): i32 {
  const rest = tokens % NARROW_TILE_TOKENS;
  return rest == 5 ? tokens : tokens - rest;
}

@inline function scaled(sum: v128, scale: v128, xScale: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(sum), f32x4.mul(scale, xScale));
}

@inline function madd(sum: v128, x: v128, w: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(w, x));
}

/** sums of one token += its chunk's. */
@inline function addScaled(sums: usize, a: v128, b: v128, scale0: v128, scale1: v128, xScale: v128): void {
  v128.store(sums, f32x4.add(v128.load(sums), scaled(a, scale0, xScale)));
  v128.store(sums, f32x4.add(v128.load(sums, 16), scaled(b, scale1, xScale)), 16);
}

/** y of the first `tokens` of a tile from its sums, which are then 0 for the next one: cleared there, they cost twice the time. */
function finish(sums: usize, y: usize, rowBytes: usize, count: i32, tokens: i32, factor: f32, bias: usize): void {
  const factor4 = f32x4.splat(factor), zero = f32x4.splat(0), bias0 = v128.load(bias), bias1 = v128.load(bias, 16);
  for (const end = sums + SUMS_BYTES; sums < end; tokens--, sums += 32, y += rowBytes) {
    if (tokens > 0) {
      const a = f32x4.add(f32x4.mul(v128.load(sums), factor4), bias0), b = f32x4.add(f32x4.mul(v128.load(sums, 16), factor4), bias1);
      if (count >= 8) {
        v128.store(y, a);
        v128.store(y, b, 16);
      } else {
        storeLanes(y, a, count);
        storeLanes(y + 16, b, count - 4);
      }
    }
    v128.store(sums, zero);
    v128.store(sums, zero, 16);
  }
}

/** Weights as unsigned bytes below 128, activations i8. together: 6, or 4 for the last four. eights: every zero point is 8. */
@inline function narrowTilesOf(together: i32, block: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, eights: bool, groupOctets: usize, sums: usize, y: usize, rowBytes: usize, count: i32, tokens: i32, groups: i32, factor: f32): void {
  const lastGroup = groupOctets + (<usize>groups << 2), words = <usize>together << 2;
  for (; tokens > 0; tokens -= together, y += <usize>together * rowBytes) {
    let scales = block, w = block + (<usize>groups << 6), zeros = block + (<usize>groups << 5);
    for (let octets = groupOctets; octets < lastGroup; octets += 4, scales += 32, zeros += 32) {
      for (let left = load<i32>(octets); left > 0; left -= 4, xScale += words, minusSum += words) {
        let w0: v128, w1: v128, v: v128, a0: v128, b0: v128, a1: v128, b1: v128, a2: v128, b2: v128, a3: v128, b3: v128;
        let a4 = i32x4.splat(0), b4 = a4, a5 = a4, b5 = a4;
        if (eights) {
          a0 = b0 = i32x4.shl(v128.load32_splat(minusSum, 0), 3);
          a1 = b1 = i32x4.shl(v128.load32_splat(minusSum, 4), 3);
          a2 = b2 = i32x4.shl(v128.load32_splat(minusSum, 8), 3);
          a3 = b3 = i32x4.shl(v128.load32_splat(minusSum, 12), 3);
          if (together == 6) {
            a4 = b4 = i32x4.shl(v128.load32_splat(minusSum, 16), 3);
            a5 = b5 = i32x4.shl(v128.load32_splat(minusSum, 20), 3);
          }
        } else {
          w0 = v128.load(zeros); w1 = v128.load(zeros, 16);
          v = v128.load32_splat(minusSum, 0); a0 = i32x4.dot_i16x8_s(w0, v); b0 = i32x4.dot_i16x8_s(w1, v);
          v = v128.load32_splat(minusSum, 4); a1 = i32x4.dot_i16x8_s(w0, v); b1 = i32x4.dot_i16x8_s(w1, v);
          v = v128.load32_splat(minusSum, 8); a2 = i32x4.dot_i16x8_s(w0, v); b2 = i32x4.dot_i16x8_s(w1, v);
          v = v128.load32_splat(minusSum, 12); a3 = i32x4.dot_i16x8_s(w0, v); b3 = i32x4.dot_i16x8_s(w1, v);
          if (together == 6) {
            v = v128.load32_splat(minusSum, 16); a4 = i32x4.dot_i16x8_s(w0, v); b4 = i32x4.dot_i16x8_s(w1, v);
            v = v128.load32_splat(minusSum, 20); a5 = i32x4.dot_i16x8_s(w0, v); b5 = i32x4.dot_i16x8_s(w1, v);
          }
        }
        for (const end = w + (<usize>min(left, 4) << 6); w < end; w += 32, x += words) {
          w0 = v128.load(w); w1 = v128.load(w, 16);
          v = v128.load32_splat(x, 0); a0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a0); b0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b0);
          v = v128.load32_splat(x, 4); a1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a1); b1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b1);
          v = v128.load32_splat(x, 8); a2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a2); b2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b2);
          v = v128.load32_splat(x, 12); a3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a3); b3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b3);
          if (together == 6) {
            v = v128.load32_splat(x, 16); a4 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a4); b4 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b4);
            v = v128.load32_splat(x, 20); a5 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w0, a5); b5 = i32x4.relaxed_dot_i8x16_i7x16_add_s(v, w1, b5);
          }
        }
        w0 = v128.load(scales); w1 = v128.load(scales, 16);
        v = v128.load32_splat(xScale, 0); v128.store(sums, f32x4.add(v128.load(sums, 0), scaled(a0, w0, v)), 0); v128.store(sums, f32x4.add(v128.load(sums, 16), scaled(b0, w1, v)), 16);
        v = v128.load32_splat(xScale, 4); v128.store(sums, f32x4.add(v128.load(sums, 32), scaled(a1, w0, v)), 32); v128.store(sums, f32x4.add(v128.load(sums, 48), scaled(b1, w1, v)), 48);
        v = v128.load32_splat(xScale, 8); v128.store(sums, f32x4.add(v128.load(sums, 64), scaled(a2, w0, v)), 64); v128.store(sums, f32x4.add(v128.load(sums, 80), scaled(b2, w1, v)), 80);
        v = v128.load32_splat(xScale, 12); v128.store(sums, f32x4.add(v128.load(sums, 96), scaled(a3, w0, v)), 96); v128.store(sums, f32x4.add(v128.load(sums, 112), scaled(b3, w1, v)), 112);
        if (together == 6) {
          v = v128.load32_splat(xScale, 16); v128.store(sums, f32x4.add(v128.load(sums, 128), scaled(a4, w0, v)), 128); v128.store(sums, f32x4.add(v128.load(sums, 144), scaled(b4, w1, v)), 144);
          v = v128.load32_splat(xScale, 20); v128.store(sums, f32x4.add(v128.load(sums, 160), scaled(a5, w0, v)), 160); v128.store(sums, f32x4.add(v128.load(sums, 176), scaled(b5, w1, v)), 176);
        }
      }
    }
    finish(sums, y, rowBytes, count, min(tokens, together), factor, bias);
  }
}

// In the plain build these are never called.
export function narrowSixes(block: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, eights: bool, groupOctets: usize, sums: usize, y: usize, rowBytes: usize, count: i32, tokens: i32, groups: i32, factor: f32): void {
  if (ASC_FEATURE_RELAXED_SIMD) narrowTilesOf(6, block, bias, x, xScale, minusSum, eights, groupOctets, sums, y, rowBytes, count, tokens, groups, factor);
}

export function narrowFour(block: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, eights: bool, groupOctets: usize, sums: usize, y: usize, rowBytes: usize, count: i32, groups: i32, factor: f32): void {
  if (ASC_FEATURE_RELAXED_SIMD) narrowTilesOf(4, block, bias, x, xScale, minusSum, eights, groupOctets, sums, y, rowBytes, count, 4, groups, factor);
}

/** Weights as i16 without zero points, activations i16. */
export function wideTiles(block: usize, bias: usize, x: usize, xScale: usize, groupOctets: usize, sums: usize, y: usize, rowBytes: usize, count: i32, tokens: i32, groups: i32, factor: f32): void {
  const lastGroup = groupOctets + (<usize>groups << 2);
  for (; tokens > 0; tokens -= TILE_TOKENS, y += <usize>TILE_TOKENS * rowBytes) {
    let scales = block, w = block + (<usize>groups << 6);
    for (let octets = groupOctets; octets < lastGroup; octets += 4, scales += 32) {
      for (let left = load<i32>(octets); left > 0; left -= 4, xScale += 16) {
        let w0: v128, w1: v128, v: v128;
        let a0 = i32x4.splat(0), b0 = a0, a1 = i32x4.splat(0), b1 = a1, a2 = i32x4.splat(0), b2 = a2, a3 = i32x4.splat(0), b3 = a3;
        for (const end = w + (<usize>min(left, 4) << 7); w < end; w += 64, x += 32) {
          w0 = v128.load(w); w1 = v128.load(w, 32);
          v = v128.load32_splat(x, 0); a0 = madd(a0, v, w0); b0 = madd(b0, v, w1);
          v = v128.load32_splat(x, 4); a1 = madd(a1, v, w0); b1 = madd(b1, v, w1);
          v = v128.load32_splat(x, 8); a2 = madd(a2, v, w0); b2 = madd(b2, v, w1);
          v = v128.load32_splat(x, 12); a3 = madd(a3, v, w0); b3 = madd(b3, v, w1);
          w0 = v128.load(w, 16); w1 = v128.load(w, 48);
          v = v128.load32_splat(x, 16); a0 = madd(a0, v, w0); b0 = madd(b0, v, w1);
          v = v128.load32_splat(x, 20); a1 = madd(a1, v, w0); b1 = madd(b1, v, w1);
          v = v128.load32_splat(x, 24); a2 = madd(a2, v, w0); b2 = madd(b2, v, w1);
          v = v128.load32_splat(x, 28); a3 = madd(a3, v, w0); b3 = madd(b3, v, w1);
        }
        w0 = v128.load(scales); w1 = v128.load(scales, 16);
        v = v128.load32_splat(xScale, 0); addScaled(sums, a0, b0, w0, w1, v);
        v = v128.load32_splat(xScale, 4); addScaled(sums + 32, a1, b1, w0, w1, v);
        v = v128.load32_splat(xScale, 8); addScaled(sums + 64, a2, b2, w0, w1, v);
        v = v128.load32_splat(xScale, 12); addScaled(sums + 96, a3, b3, w0, w1, v);
      }
    }
    finish(sums, y, rowBytes, count, min(tokens, TILE_TOKENS), factor, bias);
  }
}
