// quantize_rows: activations to integers in chunks, symmetric: scale = absmax / levels, q = round half to even of x * (levels / absmax).
//   x            [tokens, cols] f32
//   channels     [octets * 8] i32, the channel in each place, cols for none; 0: place k holds channel k, and cols = octets * 8
//   groupOctets  [groups] i32, octets (8 places) of each weight group
//   q            [tokens, octets * 8] i8, or i16 where wide, as dot.ts takes them
//   levels       127, or where wide up to 1,023, the most whose sum over a chunk fits 16 bits (chunk_format.ts, correction)
//   scale        [tokens, chunks] f32
//   minusSum     [tokens, chunks] i32, minus the sum of the chunk's q: what a zero point of 1 contributes
//   gathered     [octets * 8] f32, scratch, with `channels` only
// A chunk is 32 places of one weight group, the group's last chunk what is left. A chunk whose absmax is under 1e-30 becomes zeros; one
// that holds a NaN or an infinity gets such a scale, and so do the outputs.
// Reference: test/wasm/oracle.ts, quantizeRow.

import { octetBytes } from './dot';
import { maxLane } from './lanes';

export function quantize_rows(x: usize, channels: usize, groupOctets: usize, q: usize, scale: usize, minusSum: usize, gathered: usize, tokens: i32, cols: i32, octets: i32, groups: i32, levels: f32, wide: bool): void {
  for (let token = 0; token < tokens; token++, x += <usize>cols << 2) {
    let from = x;
    if (channels != 0) {
      gather(x, channels, gathered, cols, octets << 3);
      from = gathered;
    }
    for (let group = 0; group < groups; group++) {
      for (let left = load<i32>(groupOctets + (<usize>group << 2)); left > 0; left -= 4, scale += 4, minusSum += 4) {
        const count = <usize>min(left, 4);
        quantizeChunk(wide, levels, from, q, scale, minusSum, count << 5);
        from += count << 5;
        q += count * octetBytes(wide);
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

/** Four activations times `inverse`, rounded half to even. */
@inline export function rounded4(x: v128, inverse: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(x, inverse)));
}

/** An octet as dot.ts takes it, from its first and last four integers. */
@inline export function storeOctet(wide: bool, q: usize, a: v128, b: v128): void {
  const words = i16x8.narrow_i32x4_s(a, b);
  if (wide) v128.store(q, v128.shuffle<i16>(words, words, 0, 2, 1, 3, 4, 6, 5, 7));
  else v128.store64_lane(q, i8x16.narrow_i16x8_s(words, words), 0);
}

/** -(l0 + l1 + l2 + l3) */
@inline export function minusLanes(sum: v128): i32 {
  sum = i32x4.add(sum, v128.shuffle<i32>(sum, sum, 2, 3, 0, 1));
  return -(i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1));
}

function quantizeChunk(wide: bool, levels: f32, x: usize, q: usize, scale: usize, minusSum: usize, bytes: usize): void {
  let largest = f32x4.splat(0);
  for (let k: usize = 0; k < bytes; k += 16) largest = f32x4.max(largest, f32x4.abs(v128.load(x + k)));
  const absmax = maxLane(largest);
  const inverse = f32x4.splat(absmax > 1e-30 ? levels / absmax : 0);
  let sum = i32x4.splat(0);
  for (const end = x + bytes; x < end; x += 32, q += octetBytes(wide)) {
    const a = rounded4(v128.load(x), inverse), b = rounded4(v128.load(x, 16), inverse);
    sum = i32x4.add(sum, i32x4.add(a, b));
    storeOctet(wide, q, a, b);
  }
  store<f32>(scale, absmax / levels);
  store<i32>(minusSum, minusLanes(sum));
}
