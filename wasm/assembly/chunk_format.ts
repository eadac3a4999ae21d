// chunk_format: what linear_chunks does differently for each weight format: 2, 3, 4 or 8 bits, or TABLE. Layouts: linear_chunks.ts.
// `format` is a constant wherever these are inlined, so no test of it is left at run time.

import { crumbMask, nibbleMask } from './constants';
import { dot, dot16 } from './dot';
import { loadHalfLow } from './lanes';

/** The format whose value is looked up; others are their number of bits. */
export const TABLE = 16;

@inline export function isWide(format: i32): bool {
  return format == 8 || !ASC_FEATURE_RELAXED_SIMD;
}

/** Whether values go in two parts of 7 bits, each with its own sum; elsewhere a table's values are put together as i16. */
@inline export function inParts(format: i32): bool {
  return format == TABLE && ASC_FEATURE_RELAXED_SIMD;
}

/** Bytes of 8 places of 8 rows. */
@inline export function weightBytes(format: i32): usize {
  if (format == 2) return 16;
  if (format == 3) return 24;
  return format == 8 ? 64 : 32;
}

@inline export function scaleBytes(format: i32): usize {
  return format == TABLE ? 4 : 2;
}

/** The words that hold places 0..3 of rows 0..3. `next` four rows later. */
@inline export function wordsLow(format: i32, q: usize): v128 { return v128.load(q); }
@inline export function wordsLowNext(format: i32, q: usize): v128 { return format < 4 ? v128.load(q) : v128.load(q, 16); }
/** The words that hold places 4..7; `low` are those of places 0..3. */
@inline export function wordsHigh(format: i32, low: v128, q: usize): v128 { return format == 8 ? v128.load(q, 32) : low; }
@inline export function wordsHighNext(format: i32, low: v128, q: usize): v128 { return format == 8 ? v128.load(q, 48) : low; }

/** Bit 2 of 3-bit values: byte i has that of 2-bit byte i in its lowest four bits. */
@inline export function thirdBits(format: i32, q: usize, lowerLanes: v128): v128 {
  if (format != 3) return lowerLanes;
  const both = v128.load64_splat(q, 16);
  return v128.bitselect(both, i16x8.shr_u(both, 4), lowerLanes);
}

/** A byte's field: 0 places 0..3, 1 those of the next rows, 2 places 4..7, 3 those of the next rows. 4 bits have fields 0 and 2, 8 bits one. */
@inline export function bytesOf(format: i32, field: i32, w: v128, third: v128, mask: v128, bit2: v128): v128 {
  if (format == 8) return w;
  if (format == 4 || format == TABLE) return v128.and(field >= 2 ? i16x8.shr_u(w, 4) : w, mask);
  const low = v128.and(field == 0 ? w : i16x8.shr_u(w, 2 * field), mask);
  if (format == 2) return low;
  const moved = field == 0 ? i16x8.shl(third, 2) : field == 1 ? i16x8.shl(third, 1) : field == 2 ? third : i16x8.shr_u(third, 1);
  return v128.or(low, v128.and(moved, bit2));
}

/** Bytes of a table at codes below 16, where relaxed and plain are the same. */
@inline export function lookUp(table: v128, codes: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? i8x16.relaxed_swizzle(table, codes) : i8x16.swizzle(table, codes);
}

/** low[16] and high[16]: as they are for parts, else the bytes of 128 * high + low - 2^13. */
@inline export function lowTableOf(parts: bool, tables: usize): v128 {
  const low = v128.load(tables);
  return parts ? low : v128.or(low, i8x16.shl(v128.load(tables, 16), 7));
}
@inline export function highTableOf(parts: bool, tables: usize): v128 {
  const high = v128.load(tables, 16);
  return parts ? high : i8x16.sub(i8x16.shr_u(high, 1), i8x16.splat(32));
}

/** The i16 of even and of odd bytes, from the look-ups of both tables (not in parts). */
@inline export function evenValues(low: v128, high: v128, bytes: v128): v128 {
  return v128.or(v128.and(low, bytes), i16x8.shl(high, 8));
}
@inline export function oddValues(low: v128, high: v128, bytes: v128): v128 {
  return v128.or(i16x8.shr_u(low, 8), v128.andnot(high, bytes));
}

/** sum + x . values; `bytes` are bytesOf's. */
@inline export function product(format: i32, even: v128, odd: v128, w: v128, bytes: v128, lowTable: v128, highTable: v128, sum: v128): v128 {
  if (format != TABLE) return dot(isWide(format), even, odd, w, bytes, sum);
  const low = lookUp(lowTable, w), high = lookUp(highTable, w);
  return dot16(even, odd, evenValues(low, high, bytes), oddValues(low, high, bytes), sum);
}

@inline export function maskOf(format: i32): v128 {
  return i32x4.splat(format < 4 ? crumbMask : nibbleMask);
}

/** Scales of 4 rows, of f16 ones 2^-112 times (loadHalfLow): the activations' scales bring 2^64 of that back, the sum the rest. */
@inline export function scale4(format: i32, scale: usize, half: v128): v128 {
  return format == TABLE ? v128.load(scale) : loadHalfLow(scale, half);
}

/** What is left to multiply a row's sum by. */
@inline export function sumFactor(format: i32): f32 {
  return format == TABLE ? 1 : 281474976710656;
}

/** -zero * sum(x8) for 4 rows; `minus` is -sum(x8), splatted, and fits 16 bits. An i16 of a table has no zero point left. */
@inline export function correction(format: i32, asymmetric: bool, zero: v128, minus: v128): v128 {
  if (format == TABLE) return inParts(format) ? i32x4.shl(minus, 13) : i32x4.splat(0);
  return asymmetric ? i32x4.dot_i16x8_s(zero, minus) : i32x4.shl(minus, format - 1);
}

/** A chunk's two sums as one: the high and low part where there are parts. */
@inline export function joined(format: i32, a: v128, b: v128): v128 {
  return i32x4.add(inParts(format) ? i32x4.shl(a, 7) : a, b);
}

@inline export function accumulate(f: v128, sum: v128, scale: v128, xScale: v128): v128 {
  return f32x4.add(f, f32x4.mul(f32x4.convert_i32x4_s(sum), f32x4.mul(scale, xScale)));
}

@inline export function lowerLanesMask(): v128 {
  return i64x2.replace_lane(i64x2.splat(0), 0, -1);
}
