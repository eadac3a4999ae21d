// quantize_tokens: whole tokens to int8, without their outliers: h = x rounded to f16, as bitsandbytes does before anything is decided,
// scale = absmax / 127 and q = round half to even of h * (127 / absmax) over channels with |h| < threshold; q is 0 elsewhere.
//   x             [tokens, cols] f32
//   q             [tokens, octets * 8] i16, wide as dot.ts takes it; places beyond cols are 0
//   scale         [tokens] f32
//   minusSum      [tokens] i32, minus the sum of q
//   outliers      [tokens, cols] i32, the first outlierCount of a row: its channels with |h| >= threshold, rising
//   outlierCount  [tokens] i32
//   kept          [parts, octets * 8] f32, scratch
// What f16 cannot hold (from 65520 on) stays as it is. A threshold of infinity keeps all but infinities. Absmax under 1e-30 gives zeros; a NaN makes the scale NaN, and so the outputs.
// Split by tokens. Reference: test/wasm/oracle.ts, linearInt8.

import { roundingMagic } from './constants';
import { octetBytes } from './dot';
import { maxAbs, maxAbsLane } from './lanes';
import { evenThenOdd, minusLanes, rounded4 } from './quantize_rows';
import { share } from './task';

/** To the nearest f16, ties to even. */
@inline function roundToHalf(value: f32): f32 {
  const size = abs<f32>(value);
  if (!(size < 65520)) return value;
  // Subnormals of f16 are multiples of 2^-24, as are f32 between 0.5 and 1.
  if (size < 6.103515625e-5) return value + <f32>0.75 - <f32>0.75;
  const bits = reinterpret<u32>(value);
  return reinterpret<f32>(bits + 0xfff + (bits >> 13 & 1) & 0xffffe000);
}

export function quantize_tokens(task: usize, part: i32, parts: i32): void {
  const tokens = load<i32>(task, 28), cols = load<i32>(task, 32), octets = load<usize>(task, 36), threshold = load<f32>(task, 40);
  const magic = f32x4.splat(roundingMagic), places = octets << 5, kept = load<usize>(task, 24) + <usize>part * places;
  const first = share(tokens, part, parts), end = share(tokens, part + 1, parts), before = <usize>first << 2;
  let x = load<usize>(task) + before * cols, q = load<usize>(task, 4) + <usize>first * octets * octetBytes(true);
  let scale = load<usize>(task, 8) + before, minusSum = load<usize>(task, 12) + before, outliers = load<usize>(task, 16) + before * cols, outlierCount = load<usize>(task, 20) + before;
  memory.fill(kept, 0, places);
  for (let token = first; token < end; token++, scale += 4, minusSum += 4, outlierCount += 4, outliers += <usize>cols << 2) {
    let count = 0;
    for (let k = 0; k < cols; k++, x += 4) {
      const value = roundToHalf(load<f32>(x)), isOutlier = abs<f32>(value) >= threshold;
      store<f32>(kept + (<usize>k << 2), isOutlier ? 0 : value);
      if (isOutlier) store<i32>(outliers + (<usize>(count++) << 2), k);
    }
    store<i32>(outlierCount, count);
    let largest = f32x4.splat(0);
    for (let k: usize = 0; k < places; k += 16) largest = maxAbs(largest, v128.load(kept + k));
    let absmax = maxAbsLane(largest);
    if (absmax == Infinity) absmax = NaN;
    const inverse = f32x4.splat(absmax > 1e-30 ? <f32>127 / absmax : 0);
    let sum = i32x4.splat(0);
    for (let k: usize = 0; k < places; k += 32, q += octetBytes(true)) {
      const a = rounded4(v128.load(kept + k), inverse, magic), b = rounded4(v128.load(kept + k, 16), inverse, magic);
      sum = i32x4.add(sum, i32x4.add(a, b));
      v128.store(q, evenThenOdd(i16x8.narrow_i32x4_s(a, b)));
    }
    store<f32>(scale, absmax / <f32>127);
    store<i32>(minusSum, minusLanes(sum));
  }
}
