// quantize_rows: activations to int8 in groups of 32, symmetric: scale = absmax / 127, q = round half to even of x * (127 / absmax).
//   x         [tokens, cols] f32
//   q         [tokens, groups * 32] i8 in channel order (relaxed build), or i16 with each 8 channels as 0 2 1 3 4 6 5 7 (plain build),
//             so that two bytes' or two words' neighbours meet the nibbles of linear_gptq's layout
//   scale     [tokens, groups] f32
//   minusSum  [tokens, groups] i32, minus the sum of the group's q: what a zero point of 1 contributes
//   padded    [32] f32, scratch
// groups = ceil(cols / 32); missing channels count as 0. A group whose absmax is under 1e-30 becomes zeros; one that holds a NaN or an
// infinity gets such a scale, and so do the outputs.
// Reference: test/wasm/oracle.ts, quantizeRow.

import { maxLane } from './lanes';

/** Bytes of one quantized activation. */
export const QUANTIZED_BYTES: usize = ASC_FEATURE_RELAXED_SIMD ? 1 : 2;

export function quantize_rows(x: usize, q: usize, scale: usize, minusSum: usize, padded: usize, tokens: i32, cols: i32): void {
  const whole = cols >> 5, rest = <usize>(cols & 31) << 2;
  for (let token = 0; token < tokens; token++) {
    for (let group = 0; group < whole; group++, x += 128, q += 32 * QUANTIZED_BYTES, scale += 4, minusSum += 4) quantizeGroup(x, q, scale, minusSum);
    if (rest == 0) continue;
    memory.copy(padded, x, rest);
    memory.fill(padded + rest, 0, 128 - rest);
    quantizeGroup(padded, q, scale, minusSum);
    x += rest;
    q += 32 * QUANTIZED_BYTES;
    scale += 4;
    minusSum += 4;
  }
}

function quantizeGroup(x: usize, q: usize, scale: usize, minusSum: usize): void {
  let largest = f32x4.abs(v128.load(x));
  for (let k: usize = 16; k < 128; k += 16) largest = f32x4.max(largest, f32x4.abs(v128.load(x + k)));
  const absmax = maxLane(largest);
  const inverse = f32x4.splat(absmax > 1e-30 ? <f32>127 / absmax : 0);
  let sum = i32x4.splat(0);
  for (let k = 0; k < 32; k += 8, x += 32, q += 8 * QUANTIZED_BYTES) {
    const a = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(x), inverse)));
    const b = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(x, 16), inverse)));
    sum = i32x4.add(sum, i32x4.add(a, b));
    const words = i16x8.narrow_i32x4_s(a, b);
    if (ASC_FEATURE_RELAXED_SIMD) v128.store64_lane(q, i8x16.narrow_i16x8_s(words, words), 0);
    else v128.store(q, v128.shuffle<i16>(words, words, 0, 2, 1, 3, 4, 6, 5, 7));
  }
  sum = i32x4.add(sum, v128.shuffle<i32>(sum, sum, 2, 3, 0, 1));
  store<f32>(scale, absmax / <f32>127);
  store<i32>(minusSum, -(i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1)));
}
