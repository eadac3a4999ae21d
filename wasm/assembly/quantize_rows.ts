// quantize_rows: activations to integers in chunks, symmetric: scale = absmax / levels, q = round half to even of x * (levels / absmax).
//   x            [tokens, cols] f32
//   channels     [octets * 8] i32, the channel in each place, cols for none; 0: place k holds channel k, and cols = octets * 8
//   groupOctets  [groups] i32, octets (8 places) of each weight group
//   q            [tokens, octets * 8] i8, or i16 where wide, as dot.ts takes them
//   together     1, or a tile's tokens: words of 4 bytes of q, scale and minusSum then lie as [tiles, words, together], as tile.ts takes them,
//                those behind tile.ts's inSixes as it says
//   levels       127, or where wide up to 1,023, the most whose sum over a chunk fits 16 bits (chunk_format.ts, correction)
//   factor       a power of two that the kernel wants in the scale
//   scale        [tokens, chunks] f32, times factor
//   minusSum     [tokens, chunks] i32, minus the sum of the chunk's q: what a zero point of 1 contributes
//   gathered     [parts, octets * 8] f32, scratch, with `channels` only
// A chunk is 32 places of one weight group, the group's last chunk what is left. A chunk whose absmax is under 1e-30 becomes zeros; one
// that holds a NaN or an infinity gets such a scale, and so do the outputs.
// Split by tokens. Reference: test/wasm/oracle.ts, quantizeRow.

import { roundingMagic } from './constants';
import { octetBytes } from './dot';
import { maxAbs, maxAbsLane } from './lanes';
import { share } from './task';
import { inSixes, NARROW_TILE_TOKENS, TILE_TOKENS } from './tile';

export function quantize_rows(task: usize, part: i32, parts: i32): void {
  const channels = load<usize>(task, 4), groupOctets = load<usize>(task, 8), tokens = load<i32>(task, 28), cols = load<i32>(task, 32);
  const octets = load<i32>(task, 36), groups = load<i32>(task, 40), chunks = load<i32>(task, 44), levels = load<f32>(task, 48), wide = load<bool>(task, 52), factor = load<f32>(task, 56), together = load<u32>(task, 60), tiled = <u32>(together == NARROW_TILE_TOKENS ? inSixes(tokens) : tokens);
  const gathered = load<usize>(task, 24) + (<usize>part * octets << 5), first = share(tokens, part, parts), end = share(tokens, part + 1, parts);
  let x = load<usize>(task) + (<usize>first * cols << 2);
  for (let token = <u32>first; token < <u32>end; token++, x += <usize>cols << 2) {
    const beyond = token >= tiled, width: u32 = beyond ? tokens - <i32>tiled == TILE_TOKENS ? TILE_TOKENS : 1 : together, base = beyond ? tiled : 0;
    const stride = <usize>width << 2, lane = (token - base) % width << 2, before = <usize>token - (lane >> 2);
    let q = load<usize>(task, 12) + before * octets * octetBytes(wide) + lane;
    let scale = load<usize>(task, 16) + (before * chunks << 2) + lane, minusSum = load<usize>(task, 20) + (before * chunks << 2) + lane;
    let from = x;
    if (channels != 0) {
      gather(x, channels, gathered, cols, octets << 3);
      from = gathered;
    }
    for (let group = 0; group < groups; group++) {
      for (let left = load<i32>(groupOctets + (<usize>group << 2)); left > 0; left -= 4, scale += stride, minusSum += stride) {
        const count = <usize>min(left, 4);
        quantizeChunk(wide, levels, factor, from, q, stride, scale, minusSum, count << 5);
        from += count << 5;
        q += count * octetBytes(wide) * width;
      }
    }
  }
}

function gather(x: usize, channels: usize, y: usize, cols: i32, places: i32): void {
  for (let place = 0; place < places; place++, channels += 4, y += 4) {
    const channel = load<i32>(channels);
    store<f32>(y, channel < cols ? load<f32>(x + (<usize>channel << 2)) : 0);
  }
}

/** Four activations times `inverse`, less than 2^22 of either sign, rounded half to even. magic: constants.ts, splatted. */
@inline export function rounded4(x: v128, inverse: v128, magic: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.mul(x, inverse), magic), magic);
}

/** A wide octet as dot.ts takes it. */
@inline export function evenThenOdd(words: v128): v128 {
  return v128.shuffle<i16>(words, words, 0, 2, 1, 3, 4, 6, 5, 7);
}

/** -(l0 + l1 + l2 + l3) */
@inline export function minusLanes(sum: v128): i32 {
  sum = i32x4.add(sum, v128.shuffle<i32>(sum, sum, 2, 3, 0, 1));
  return -(i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1));
}

function quantizeChunk(wide: bool, levels: f32, factor: f32, x: usize, q: usize, stride: usize, scale: usize, minusSum: usize, bytes: usize): void {
  let largest = f32x4.splat(0);
  for (let k: usize = 0; k < bytes; k += 16) largest = maxAbs(largest, v128.load(x + k));
  let absmax = maxAbsLane(largest);
  // Times whatever integers an infinity becomes, this is NaN and not hidden.
  if (absmax == Infinity) absmax = NaN;
  const inverse = f32x4.splat(absmax > 1e-30 ? levels / absmax : 0);
  let sum = i32x4.splat(0);
  const magic = f32x4.splat(roundingMagic);
  for (const end = x + bytes; x < end; x += 32) {
    const a = rounded4(v128.load(x), inverse, magic), b = rounded4(v128.load(x, 16), inverse, magic);
    sum = i32x4.add(sum, i32x4.add(a, b));
    const words = i16x8.narrow_i32x4_s(a, b);
    if (wide) {
      const pairs = evenThenOdd(words);
      v128.store32_lane(q, pairs, 0);
      v128.store32_lane(q + stride, pairs, 1);
      v128.store32_lane(q + 2 * stride, pairs, 2);
      v128.store32_lane(q + 3 * stride, pairs, 3);
      q += 4 * stride;
    } else {
      const bytes = i8x16.narrow_i16x8_s(words, words);
      v128.store32_lane(q, bytes, 0);
      v128.store32_lane(q + stride, bytes, 1);
      q += 2 * stride;
    }
  }
  store<f32>(scale, absmax / levels * factor);
  store<i32>(minusSum, minusLanes(sum));
}
