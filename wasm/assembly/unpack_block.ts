// unpack_block: a block of 8 rows (linear_chunks.ts) as the tiles of tile.ts multiply it, once for all tokens of a call.
//   to  scales [groups, 8] f32 (f16 ones 2^-112 times), zeros [groups, 8] i32, then octets of 8 places times 8 rows:
//       narrow, 64 bytes: places 0..3 of rows 0..3, of rows 4..7, places 4..7 of rows 0..3, of rows 4..7; a byte a value, unsigned
//       wide, 128 bytes: the same four, each as places 0 2 (4 6), then 1 3 (5 7), an i16 a value, its zero point subtracted
// Narrow where activations are i8 (dot.ts), else wide.

import { bytesOf, evenValues, highTableOf, inParts, isWide, lookUp, lowerLanesMask, lowTableOf, maskOf, oddValues, scale4, scaleBytes, TABLE, thirdBits, weightBytes, wordsHigh, wordsHighNext, wordsLow, wordsLowNext } from './chunk_format';
import { bit2Mask, halfMask } from './constants';
import { byteSplat } from './dot';

/** What one block takes at most. wasm/linear.ts counts the same. */
@inline export function unpackedBytes(groups: i32, octets: i32): usize {
  return (<usize>groups << 6) + (<usize>octets << 7);
}

@inline function storeWide(format: i32, to: usize, values: v128, zero: v128, lowTable: v128, highTable: v128, bytes: v128): void {
  if (format == TABLE) {
    const low = lookUp(lowTable, values), high = lookUp(highTable, values);
    v128.store(to, evenValues(low, high, bytes));
    v128.store(to, oddValues(low, high, bytes), 16);
    return;
  }
  v128.store(to, i16x8.sub(v128.and(values, bytes), zero));
  v128.store(to, i16x8.sub(i16x8.shr_u(values, 8), zero), 16);
}

@inline export function unpackBlock(format: i32, q: usize, tables: usize, scale: usize, zero: usize, groupOctets: usize, to: usize, groups: i32, octets: i32): void {
  const mask = maskOf(format), half = i32x4.splat(halfMask), bytes = byteSplat(), lower = lowerLanesMask(), bit2 = i32x4.splat(bit2Mask);
  let lowTable = bit2, highTable = bit2, z0 = i32x4.splat(0), z1 = z0;
  if (format == TABLE) {
    lowTable = lowTableOf(false, tables);
    highTable = highTableOf(false, tables);
  } else z0 = z1 = i32x4.splat(1 << (format - 1));
  const zeros = to + (<usize>groups << 5);
  let out = to + (<usize>groups << 6);
  for (let group: usize = 0; group < <usize>groups; group++) {
    const at = to + (group << 5), zeroAt = zeros + (group << 5);
    v128.store(at, scale4(format, scale, half));
    v128.store(at, scale4(format, scale + 4 * scaleBytes(format), half), 16);
    scale += 8 * scaleBytes(format);
    if (format != TABLE && zero != 0) {
      const z = v128.load8x8_u(zero);
      z0 = i32x4.extend_low_i16x8_u(z);
      z1 = i32x4.extend_high_i16x8_u(z);
      zero += 8;
    }
    v128.store(zeroAt, z0);
    v128.store(zeroAt, z1, 16);
    const pair0 = v128.or(z0, i32x4.shl(z0, 16)), pair1 = v128.or(z1, i32x4.shl(z1, 16));
    for (const end = q + load<usize>(groupOctets + (group << 2)) * weightBytes(format); q < end; q += weightBytes(format)) {
      const w0 = wordsLow(format, q), w1 = wordsLowNext(format, q), third = thirdBits(format, q, lower);
      const low0 = bytesOf(format, 0, w0, third, mask, bit2), low1 = bytesOf(format, 1, w1, third, mask, bit2);
      const high0 = bytesOf(format, 2, wordsHigh(format, w0, q), third, mask, bit2), high1 = bytesOf(format, 3, wordsHighNext(format, w1, q), third, mask, bit2);
      if (isWide(format) || inParts(format)) {
        storeWide(format, out, low0, pair0, lowTable, highTable, bytes);
        storeWide(format, out + 32, low1, pair1, lowTable, highTable, bytes);
        storeWide(format, out + 64, high0, pair0, lowTable, highTable, bytes);
        storeWide(format, out + 96, high1, pair1, lowTable, highTable, bytes);
        out += 128;
      } else {
        v128.store(out, low0);
        v128.store(out, low1, 16);
        v128.store(out, high0, 32);
        v128.store(out, high1, 48);
        out += 64;
      }
    }
  }
}
