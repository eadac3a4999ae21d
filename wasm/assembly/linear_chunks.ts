// linear_chunks: the product that linear_gptq and linear_bnb4 share, for weights of up to 8 bits with one scale and one zero a weight group.
//   y[t,n] = sum over chunks c of f32(sum in c of (value[n,k] - zero[n,G]) * x8[t,k]) * (scale[n,G] * xScale[t,c]) + bias[n]
//   q            [blocks, octets] of 8 places (input channels in order of their weight group) times 8 rows; bytes of one by format:
//                4 bits, 32: [8 rows] u32, byte c holds place c in its low nibble and place c + 4 in its high one
//                2 bits, 16: [4] u32, byte c of word r holds row r places c (bits 0, 1) and c + 4 (4, 5), row r + 4 the same (2, 3 and 6, 7)
//                3 bits, 24: the low two bits as above, then [2] u32 with bit 2: byte c of word r holds row r in bits 0..3, row r + 2 in 4..7:
//                places c (0), c of row + 4 (1), c + 4 (2), c + 4 of row + 4 (3)
//                8 bits, 64: [8 rows] u32 of places 0..3, then of places 4..7
//                a table, 32: codes as 4 bits; the value is 128 * high[code] + low[code] - 2^13
//   tables       low[16], high[16] u8 below 128, for a table
//   scale        [blocks, groups, 8] f16, any sign, finite; f32 for a table
//   zero         [blocks, groups, 8] u8 (the asymmetric form only); symmetric: 2^(bits - 1); a table has none
//   bias         [blocks * 8] f32
//   groupOctets  [groups] i32
//   x8, xScale, minusSum: quantize_rows
//   y            [tokens, rows] f32
// blocks = ceil(rows / 8), octets and chunks are those of all groups; places beyond a group's channels meet an x8 of 0.
// Accumulation: integers inside a chunk (at most 32 places, exact: |sum| <= 32 * 127 * 2^14,
// and 32 * 1,023 * 2^8 for 8 bits), then f32 multiply and add, chunks in order,
// then the bias. The order is the same in both tiles, so a row's bits do not depend on how many rows come with it.
// 8 bits take wide activations in both builds, see dot.ts, and so more levels of them.
// Layout and unsigned values with a zero-point correction: as llama.cpp's repacked Q4_0_8x8 (ggml-cpu/repack.cpp), cut to 128-bit lanes.
// Reference: test/wasm/oracle.ts, and core/formats for the dequantised weights.

import {
  accumulate,
  bytesOf,
  correction,
  highTableOf,
  inParts,
  isWide,
  joined,
  lookUp,
  lowerLanesMask,
  lowTableOf,
  maskOf,
  product,
  scale4,
  scaleBytes,
  TABLE,
  thirdBits,
  weightBytes,
  wordsHigh,
  wordsHighNext,
  wordsLow,
  wordsLowNext,
} from './chunk_format';
import { bit2Mask, halfFactor, halfMask } from './constants';
import { byteSplat, dot, highEven, highOdd, lowEven, lowOdd, octetBytes } from './dot';
import { storeLanes } from './lanes';

/** One token times one block of 8 rows. */
@inline function tile1(format: i32, asymmetric: bool, q: usize, tables: usize, scale: usize, zero: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, groupOctets: usize, y: usize, count: i32, groups: i32): void {
  const mask = maskOf(format), half = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor), bytes = byteSplat(), lower = lowerLanesMask();
  const bit2 = i32x4.splat(bit2Mask), wide = isWide(format);
  let lowTable = bit2, highTable = bit2;
  if (format == TABLE) {
    lowTable = lowTableOf(tables);
    highTable = highTableOf(tables);
  }
  let f0 = f32x4.splat(0), f1 = f0, z0 = f0, z1 = f0;
  for (const lastGroup = groupOctets + (<usize>groups << 2); groupOctets < lastGroup; groupOctets += 4) {
    const s0 = scale4(format, scale, half, factor), s1 = scale4(format, scale + 4 * scaleBytes(format), half, factor);
    scale += 8 * scaleBytes(format);
    if (asymmetric) {
      const z = v128.load8x8_u(zero);
      z0 = i32x4.extend_low_i16x8_u(z);
      z1 = i32x4.extend_high_i16x8_u(z);
      zero += 8;
    }
    for (let left = load<i32>(groupOctets); left > 0; left -= 4, xScale += 4, minusSum += 4) {
      const end = q + <usize>min(left, 4) * weightBytes(format);
      let a0 = i32x4.splat(0), a1 = a0, b0 = a0, b1 = a0;
      const minus = v128.load32_splat(minusSum);
      b0 = correction(format, asymmetric, z0, minus);
      b1 = correction(format, asymmetric, z1, minus);
      for (; q < end; q += weightBytes(format), x += octetBytes(wide)) {
        const w0 = wordsLow(format, q), w1 = wordsLowNext(format, q), third = thirdBits(format, q, lower);
        let even = lowEven(wide, x), odd = lowOdd(wide, x);
        const low0 = bytesOf(format, 0, w0, third, mask, bit2), low1 = bytesOf(format, 1, w1, third, mask, bit2);
        if (inParts(format)) {
          a0 = dot(wide, even, odd, lookUp(highTable, low0), bytes, a0);
          a1 = dot(wide, even, odd, lookUp(highTable, low1), bytes, a1);
          b0 = dot(wide, even, odd, lookUp(lowTable, low0), bytes, b0);
          b1 = dot(wide, even, odd, lookUp(lowTable, low1), bytes, b1);
        } else {
          a0 = product(format, even, odd, low0, bytes, lowTable, highTable, a0);
          a1 = product(format, even, odd, low1, bytes, lowTable, highTable, a1);
        }
        even = highEven(wide, x); odd = highOdd(wide, x);
        const high0 = bytesOf(format, 2, wordsHigh(format, w0, q), third, mask, bit2), high1 = bytesOf(format, 3, wordsHighNext(format, w1, q), third, mask, bit2);
        if (inParts(format)) {
          a0 = dot(wide, even, odd, lookUp(highTable, high0), bytes, a0);
          a1 = dot(wide, even, odd, lookUp(highTable, high1), bytes, a1);
          b0 = dot(wide, even, odd, lookUp(lowTable, high0), bytes, b0);
          b1 = dot(wide, even, odd, lookUp(lowTable, high1), bytes, b1);
        } else {
          b0 = product(format, even, odd, high0, bytes, lowTable, highTable, b0);
          b1 = product(format, even, odd, high1, bytes, lowTable, highTable, b1);
        }
      }
      const xs = v128.load32_splat(xScale);
      f0 = accumulate(f0, joined(format, a0, b0), s0, xs);
      f1 = accumulate(f1, joined(format, a1, b1), s1, xs);
    }
  }
  storeLanes(y, f32x4.add(f0, v128.load(bias)), count);
  storeLanes(y + 16, f32x4.add(f1, v128.load(bias, 16)), count - 4);
}

/** Four tokens times 4 rows, the first (field 0) or second (field 1) half of a block: few enough accumulators to stay in 16 registers. */
@inline function tile4(format: i32, field: i32, asymmetric: bool, q: usize, tables: usize, scale: usize, zero: usize, bias: usize, x0: usize, xScale: usize, minusSum: usize, groupOctets: usize, y: usize, rows: i32, count: i32, groups: i32, octets: i32, chunks: i32): void {
  const mask = maskOf(format), half = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor), bytes = byteSplat(), lower = lowerLanesMask();
  const bit2 = i32x4.splat(bit2Mask), wide = isWide(format);
  let lowTable = bit2, highTable = bit2;
  if (format == TABLE) {
    lowTable = lowTableOf(tables);
    highTable = highTableOf(tables);
  }
  const xStride = <usize>octets * octetBytes(wide), scaleStride = <usize>chunks << 2, yStride = <usize>rows << 2;
  let x1 = x0 + xStride, x2 = x1 + xStride, x3 = x2 + xStride;
  let f0 = f32x4.splat(0), f1 = f0, f2 = f0, f3 = f0, z = f0;
  for (const lastGroup = groupOctets + (<usize>groups << 2); groupOctets < lastGroup; groupOctets += 4) {
    const s = scale4(format, scale, half, factor);
    scale += 8 * scaleBytes(format);
    if (asymmetric) {
      z = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(zero)));
      zero += 8;
    }
    for (let left = load<i32>(groupOctets); left > 0; left -= 4, xScale += 4, minusSum += 4) {
      const span = <usize>min(left, 4), end = q + span * weightBytes(format);
      let a0 = i32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
      let b0 = correction(format, asymmetric, z, v128.load32_splat(minusSum));
      let b1 = correction(format, asymmetric, z, v128.load32_splat(minusSum + scaleStride));
      let b2 = correction(format, asymmetric, z, v128.load32_splat(minusSum + 2 * scaleStride));
      let b3 = correction(format, asymmetric, z, v128.load32_splat(minusSum + 3 * scaleStride));
      for (; q < end; q += weightBytes(format)) {
        const wl = field == 0 ? wordsLow(format, q) : wordsLowNext(format, q), third = thirdBits(format, q, lower);
        const low = bytesOf(format, field, wl, third, mask, bit2);
        if (inParts(format)) {
          let part = lookUp(highTable, low);
          a0 = dot(wide, lowEven(wide, x0), lowOdd(wide, x0), part, bytes, a0);
          a1 = dot(wide, lowEven(wide, x1), lowOdd(wide, x1), part, bytes, a1);
          a2 = dot(wide, lowEven(wide, x2), lowOdd(wide, x2), part, bytes, a2);
          a3 = dot(wide, lowEven(wide, x3), lowOdd(wide, x3), part, bytes, a3);
          part = lookUp(lowTable, low);
          b0 = dot(wide, lowEven(wide, x0), lowOdd(wide, x0), part, bytes, b0);
          b1 = dot(wide, lowEven(wide, x1), lowOdd(wide, x1), part, bytes, b1);
          b2 = dot(wide, lowEven(wide, x2), lowOdd(wide, x2), part, bytes, b2);
          b3 = dot(wide, lowEven(wide, x3), lowOdd(wide, x3), part, bytes, b3);
        } else {
          b0 = product(format, lowEven(wide, x0), lowOdd(wide, x0), low, bytes, lowTable, highTable, b0);
          b1 = product(format, lowEven(wide, x1), lowOdd(wide, x1), low, bytes, lowTable, highTable, b1);
          b2 = product(format, lowEven(wide, x2), lowOdd(wide, x2), low, bytes, lowTable, highTable, b2);
          b3 = product(format, lowEven(wide, x3), lowOdd(wide, x3), low, bytes, lowTable, highTable, b3);
        }
        const wh = field == 0 ? wordsHigh(format, wl, q) : wordsHighNext(format, wl, q);
        const high = bytesOf(format, field + 2, wh, third, mask, bit2);
        if (inParts(format)) {
          let part = lookUp(highTable, high);
          a0 = dot(wide, highEven(wide, x0), highOdd(wide, x0), part, bytes, a0);
          a1 = dot(wide, highEven(wide, x1), highOdd(wide, x1), part, bytes, a1);
          a2 = dot(wide, highEven(wide, x2), highOdd(wide, x2), part, bytes, a2);
          a3 = dot(wide, highEven(wide, x3), highOdd(wide, x3), part, bytes, a3);
          part = lookUp(lowTable, high);
          b0 = dot(wide, highEven(wide, x0), highOdd(wide, x0), part, bytes, b0);
          b1 = dot(wide, highEven(wide, x1), highOdd(wide, x1), part, bytes, b1);
          b2 = dot(wide, highEven(wide, x2), highOdd(wide, x2), part, bytes, b2);
          b3 = dot(wide, highEven(wide, x3), highOdd(wide, x3), part, bytes, b3);
        } else {
          b0 = product(format, highEven(wide, x0), highOdd(wide, x0), high, bytes, lowTable, highTable, b0);
          b1 = product(format, highEven(wide, x1), highOdd(wide, x1), high, bytes, lowTable, highTable, b1);
          b2 = product(format, highEven(wide, x2), highOdd(wide, x2), high, bytes, lowTable, highTable, b2);
          b3 = product(format, highEven(wide, x3), highOdd(wide, x3), high, bytes, lowTable, highTable, b3);
        }
        x0 += octetBytes(wide); x1 += octetBytes(wide); x2 += octetBytes(wide); x3 += octetBytes(wide);
      }
      f0 = accumulate(f0, joined(format, a0, b0), s, v128.load32_splat(xScale));
      f1 = accumulate(f1, joined(format, a1, b1), s, v128.load32_splat(xScale + scaleStride));
      f2 = accumulate(f2, joined(format, a2, b2), s, v128.load32_splat(xScale + 2 * scaleStride));
      f3 = accumulate(f3, joined(format, a3, b3), s, v128.load32_splat(xScale + 3 * scaleStride));
    }
  }
  const b = v128.load(bias);
  storeLanes(y, f32x4.add(f0, b), count);
  storeLanes(y + yStride, f32x4.add(f1, b), count);
  storeLanes(y + 2 * yStride, f32x4.add(f2, b), count);
  storeLanes(y + 3 * yStride, f32x4.add(f3, b), count);
}

/** `format` is TABLE or a number of bits; `tables` is read for TABLE only, `zero` for asymmetric only. */
@inline export function linearChunks(format: i32, asymmetric: bool, q: usize, tables: usize, scale: usize, zero: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  const xStride = <usize>octets * octetBytes(isWide(format)), scaleStride = <usize>chunks << 2, yStride = <usize>rows << 2;
  for (let row = 0; row < rows; row += 8) {
    const count = rows - row;
    let token = 0, xt = x, xScaleT = xScale, minusSumT = minusSum, yt = y;
    for (; token + 4 <= tokens; token += 4, xt += 4 * xStride, xScaleT += 4 * scaleStride, minusSumT += 4 * scaleStride, yt += 4 * yStride) {
      tile4(format, 0, asymmetric, q, tables, scale, zero, bias, xt, xScaleT, minusSumT, groupOctets, yt, rows, count, groups, octets, chunks);
      tile4(format, 1, asymmetric, q, tables, scale + 4 * scaleBytes(format), zero + 4, bias + 16, xt, xScaleT, minusSumT, groupOctets, yt + 16, rows, count - 4, groups, octets, chunks);
    }
    for (; token < tokens; token++, xt += xStride, xScaleT += scaleStride, minusSumT += scaleStride, yt += yStride)
      tile1(format, asymmetric, q, tables, scale, zero, bias, xt, xScaleT, minusSumT, groupOctets, yt, count, groups);
    q += <usize>octets * weightBytes(format);
    scale += <usize>groups * 8 * scaleBytes(format);
    if (asymmetric) zero += <usize>groups << 3;
    bias += 32;
    y += 32;
  }
}
