// key_value: how one head's row of one token lies in its page, by dtype: 0 f32, 1 f16, 2 int8.
//   pages   [pages, kvHeads, pageTokens, stride] f32, f16 bits or i8; stride = ceil(headDim / 4) * 4, zeros behind headDim
//   scales  [pages, kvHeads, pageTokens] f32, the row's absmax / 127 (int8 only)
// f16 rounds to nearest even; what it cannot hold becomes +-65504. int8 rounds half to even of x * (127 / absmax).
// Reference: test/wasm/oracle.ts, roundToHalf and roundToInt8.

import { roundingMagic } from './constants';
import { maxAbs, maxAbsLane } from './lanes';
import { rounded4 } from './quantize_rows';

@inline export function elementShift(dtype: i32): i32 {
  return 2 - dtype;
}

/** Four values as f32: of f16 2^-112 times, of int8 without the row's scale. mask: halfMask, splatted. */
@inline export function loadValues(dtype: i32, at: usize, mask: v128): v128 {
  if (dtype == 0) return v128.load(at);
  if (dtype == 1) return v128.and(i32x4.shl(v128.load16x4_s(at), 13), mask);
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at))));
}

/** The bits of four f16. */
function halves4(x: v128): v128 {
  const sign = i32x4.shr_u(v128.and(x, i32x4.splat(0x80000000)), 16), size = f32x4.min(f32x4.abs(x), f32x4.splat(65504));
  // Subnormals of f16 are multiples of 2^-24, as are f32 between 0.5 and 1.
  const small = i32x4.sub(f32x4.add(size, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  const even = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1));
  const normal = i32x4.sub(i32x4.shr_u(i32x4.add(i32x4.add(size, i32x4.splat(0xfff)), even), 13), i32x4.splat(112 << 10));
  return v128.or(sign, v128.bitselect(small, normal, f32x4.lt(size, f32x4.splat(6.103515625e-5))));
}

/** x [headDim] f32 to the row at `to`, its scale to `scale`. */
export function storeRow(dtype: i32, x: usize, to: usize, scale: usize, headDim: i32): void {
  let inverse = f32x4.splat(0);
  if (dtype == 2) {
    let largest = f32x4.splat(0);
    for (let k = 0; k < headDim; k += 4) largest = maxAbs(largest, first(x + (<usize>k << 2), headDim - k));
    const absmax = maxAbsLane(largest);
    inverse = f32x4.splat(absmax > 1e-30 ? <f32>127 / absmax : 0);
    store<f32>(scale, absmax / <f32>127);
  }
  for (let k = 0; k < headDim; k += 4) {
    const v = first(x + (<usize>k << 2), headDim - k);
    if (dtype == 0) v128.store(to + (<usize>k << 2), v);
    else if (dtype == 1) {
      const bits = halves4(v);
      v128.store64_lane(to + (<usize>k << 1), i16x8.narrow_i32x4_u(bits, bits), 0);
    } else {
      const words = i16x8.narrow_i32x4_s(rounded4(v, inverse, f32x4.splat(roundingMagic)), f32x4.splat(0));
      v128.store32_lane(to + k, i8x16.narrow_i16x8_s(words, words), 0);
    }
  }
}

/** The first `count` of four values at x, zeros behind them. */
@inline function first(x: usize, count: i32): v128 {
  if (count >= 4) return v128.load(x);
  let v = v128.load32_zero(x);
  if (count > 1) v = v128.load32_lane(x, v, 1, 4);
  if (count > 2) v = v128.load32_lane(x, v, 2, 8);
  return v;
}

/** x [headDim] times factor to `to`, fours of channels `step` bytes apart, zeros behind. */
export function padRow(x: usize, to: usize, step: usize, headDim: i32, factor: f32): void {
  for (; headDim > 0; headDim -= 4, x += 16, to += step) v128.store(to, f32x4.mul(first(x, headDim), f32x4.splat(factor)));
}
