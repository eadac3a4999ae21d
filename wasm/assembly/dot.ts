// dot: integer products of quantized activations with unsigned bytes or with 16-bit values, the same sums in both builds.
// Narrow activations are i8: i32x4.relaxed_dot_i8x16_i7x16_add_s, exact on every machine because its second operand stays below 128.
// Wide ones are i16: i32x4.dot_i16x8_s. The plain build knows wide ones only, and 8-bit weights too: relaxed, in two parts, was slower.
// An octet is 8 activations of one token. Wide, its channels come as 0 2 1 3 4 6 5 7, so that pairs meet the even or odd bytes of a word.

import { byteMask16 } from './constants';

@inline export function octetBytes(wide: bool): usize {
  return wide ? 16 : 8;
}

// One octet, broadcast to 4 rows: channels 0..3 and 4..7 (narrow), or 0 2, 1 3, 4 6 and 5 7 (wide; narrow does not use `odd`).
// One function a place, because a load's immediate offset cannot come from an inlined argument.
@inline export function lowEven(wide: bool, x: usize): v128 { return v128.load32_splat(x); }
@inline export function lowOdd(wide: bool, x: usize): v128 { return wide ? v128.load32_splat(x, 4) : i32x4.splat(0); }
@inline export function highEven(wide: bool, x: usize): v128 { return wide ? v128.load32_splat(x, 8) : v128.load32_splat(x, 4); }
@inline export function highOdd(wide: bool, x: usize): v128 { return wide ? v128.load32_splat(x, 12) : i32x4.splat(0); }

/** sum + x . w for 4 rows; w holds 4 channels of each row in unsigned bytes, narrow ones below 128. bytes: byteSplat. */
@inline export function dot(wide: bool, even: v128, odd: v128, w: v128, bytes: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    if (!wide) return i32x4.relaxed_dot_i8x16_i7x16_add_s(even, w, sum);
  }
  return dot16(even, odd, v128.and(w, bytes), i16x8.shr_u(w, 8), sum);
}

/** The same for wide x and 16-bit values of the even and the odd channels. */
@inline export function dot16(even: v128, odd: v128, evenW: v128, oddW: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.add(i32x4.dot_i16x8_s(evenW, even), i32x4.dot_i16x8_s(oddW, odd)));
}

/** The low byte of every 16-bit lane. */
@inline export function byteSplat(): v128 {
  return i32x4.splat(byteMask16);
}
