// linear_gptq: y[t,n] = sum over groups g of 32 channels of f32(sum in g of (q[n,k] - zero[n,G(g)]) * x8[t,k]) * (scale[n,G(g)] * xScale[t,g]) + bias[n]
//   q        [blocks, groups, 4, 8 rows] u32: block of 8 output rows, group of 32 channels, octet of 8 channels, row; byte c of a word holds
//            channel c in its low nibble and channel c + 4 in its high one. 16 bytes are 4 rows of an octet
//   scale    [blocks, weightGroups, 8] f16, any sign, finite
//   zero     [blocks, weightGroups, 8] u8, 0..15 (the asymmetric form only; the symmetric one has 8 throughout)
//   bias     [blocks * 8] f32
//   x8, xScale, minusSum: quantize_rows
//   y        [tokens, rows] f32
// blocks = ceil(rows / 8), groups = ceil(in / 32), a weight group covers groupsPerScale groups, the last one what is left.
// Accumulation: integers inside a group of 32 (exact: |sum| <= 32 * 127 * 15), then f32 multiply and add, groups in order, then the bias.
// The order is the same in both tiles, so a row's bits do not depend on how many rows come with it.
// relaxed: one i32x4.relaxed_dot_i8x16_i7x16_add_s a 16 products, exact on every machine because nibbles are 7-bit. plain: i32x4.dot_i16x8_s.
// Layout and unsigned nibbles with a zero-point correction: as llama.cpp's repacked Q4_0_8x8 (ggml-cpu/repack.cpp), cut to 128-bit lanes.
// Reference: test/wasm/oracle.ts, and core/formats for the dequantised weights.

import { halfFactor, halfMask, nibbleMask, nibbleMask16 } from './constants';
import { loadHalf4, storeLanes } from './lanes';
import { QUANTIZED_BYTES } from './quantize_rows';

/** Bytes of 32 channels of one token. */
const GROUP_BYTES: usize = 32 * QUANTIZED_BYTES;
/** Bytes of 8 channels of one token. */
const OCTET_BYTES: usize = 8 * QUANTIZED_BYTES;

/** Low nibbles of 4 rows (channels 0..3 of an octet) times x. plain: even = channels 0 2, odd = 1 3. */
@inline function dotLow(even: v128, odd: v128, w: v128, mask: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(even, v128.and(w, mask), sum);
  return i32x4.add(sum, i32x4.add(i32x4.dot_i16x8_s(v128.and(w, mask), even), i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(w, 8), mask), odd)));
}

/** High nibbles of 4 rows (channels 4..7) times x. */
@inline function dotHigh(even: v128, odd: v128, w: v128, mask: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(even, v128.and(i16x8.shr_u(w, 4), mask), sum);
  return i32x4.add(sum, i32x4.add(i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(w, 4), mask), even), i32x4.dot_i16x8_s(i16x8.shr_u(w, 12), odd)));
}

// One octet of a token, broadcast to 4 rows: channels 0..3 and 4..7 (relaxed), or 0 2, 1 3, 4 6 and 5 7 (plain; `odd` is not used by relaxed).
// One function a place, because a load's immediate offset cannot come from an inlined argument.
@inline function lowEven(x: usize): v128 { return v128.load32_splat(x); }
@inline function lowOdd(x: usize): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.splat(0);
  return v128.load32_splat(x, 4);
}
@inline function highEven(x: usize): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return v128.load32_splat(x, 4);
  return v128.load32_splat(x, 8);
}
@inline function highOdd(x: usize): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.splat(0);
  return v128.load32_splat(x, 12);
}

@inline function maskSplat(): v128 {
  return i32x4.splat(ASC_FEATURE_RELAXED_SIMD ? nibbleMask : nibbleMask16);
}

/** -zero * sum(x8) for 4 rows; `minus` is -sum(x8), splatted, and fits 16 bits. */
@inline function correction(asymmetric: bool, zero: v128, minus: v128): v128 {
  return asymmetric ? i32x4.dot_i16x8_s(zero, minus) : i32x4.shl(minus, 3);
}

@inline function accumulate(f: v128, sum: v128, scale: v128, xScale: v128): v128 {
  return f32x4.add(f, f32x4.mul(f32x4.convert_i32x4_s(sum), f32x4.mul(scale, xScale)));
}

/** One token times one block of 8 rows. */
@inline function tile1(asymmetric: bool, q: usize, scale: usize, zero: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, y: usize, count: i32, groups: i32, groupsPerScale: i32): void {
  const mask = maskSplat(), half = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor);
  let f0 = f32x4.splat(0), f1 = f0, z0 = f0, z1 = f0;
  for (let group = 0; group < groups; ) {
    const s0 = loadHalf4(scale, half, factor), s1 = loadHalf4(scale + 8, half, factor);
    scale += 16;
    if (asymmetric) {
      const z = v128.load8x8_u(zero);
      z0 = i32x4.extend_low_i16x8_u(z);
      z1 = i32x4.extend_high_i16x8_u(z);
      zero += 8;
    }
    const end = min(group + groupsPerScale, groups);
    for (; group < end; group++, q += 128, xScale += 4, minusSum += 4) {
      const minus = v128.load32_splat(minusSum);
      let a0 = correction(asymmetric, z0, minus), a1 = correction(asymmetric, z1, minus), b0 = i32x4.splat(0), b1 = b0;

      let w0 = v128.load(q), w1 = v128.load(q, 16);
      let even = lowEven(x), odd = lowOdd(x);
      a0 = dotLow(even, odd, w0, mask, a0); a1 = dotLow(even, odd, w1, mask, a1);
      even = highEven(x); odd = highOdd(x);
      b0 = dotHigh(even, odd, w0, mask, b0); b1 = dotHigh(even, odd, w1, mask, b1);
      x += OCTET_BYTES;

      w0 = v128.load(q, 32); w1 = v128.load(q, 48);
      even = lowEven(x); odd = lowOdd(x);
      a0 = dotLow(even, odd, w0, mask, a0); a1 = dotLow(even, odd, w1, mask, a1);
      even = highEven(x); odd = highOdd(x);
      b0 = dotHigh(even, odd, w0, mask, b0); b1 = dotHigh(even, odd, w1, mask, b1);
      x += OCTET_BYTES;

      w0 = v128.load(q, 64); w1 = v128.load(q, 80);
      even = lowEven(x); odd = lowOdd(x);
      a0 = dotLow(even, odd, w0, mask, a0); a1 = dotLow(even, odd, w1, mask, a1);
      even = highEven(x); odd = highOdd(x);
      b0 = dotHigh(even, odd, w0, mask, b0); b1 = dotHigh(even, odd, w1, mask, b1);
      x += OCTET_BYTES;

      w0 = v128.load(q, 96); w1 = v128.load(q, 112);
      even = lowEven(x); odd = lowOdd(x);
      a0 = dotLow(even, odd, w0, mask, a0); a1 = dotLow(even, odd, w1, mask, a1);
      even = highEven(x); odd = highOdd(x);
      b0 = dotHigh(even, odd, w0, mask, b0); b1 = dotHigh(even, odd, w1, mask, b1);
      x += OCTET_BYTES;

      const xs = v128.load32_splat(xScale);
      f0 = accumulate(f0, i32x4.add(a0, b0), s0, xs);
      f1 = accumulate(f1, i32x4.add(a1, b1), s1, xs);
    }
  }
  storeLanes(y, f32x4.add(f0, v128.load(bias)), count);
  storeLanes(y + 16, f32x4.add(f1, v128.load(bias, 16)), count - 4);
}

/** Four tokens times 4 rows, the first or second half of a block: few enough accumulators to stay in 16 registers. */
@inline function tile4(asymmetric: bool, q: usize, scale: usize, zero: usize, bias: usize, x0: usize, xScale: usize, minusSum: usize, y: usize, rows: i32, count: i32, groups: i32, groupsPerScale: i32): void {
  const mask = maskSplat(), half = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor);
  const xStride = <usize>groups * GROUP_BYTES, scaleStride = <usize>groups << 2, yStride = <usize>rows << 2;
  let x1 = x0 + xStride, x2 = x1 + xStride, x3 = x2 + xStride;
  let f0 = f32x4.splat(0), f1 = f0, f2 = f0, f3 = f0, z = f0;
  for (let group = 0; group < groups; ) {
    const s = loadHalf4(scale, half, factor);
    scale += 16;
    if (asymmetric) {
      z = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(zero)));
      zero += 8;
    }
    const end = min(group + groupsPerScale, groups);
    for (; group < end; group++, xScale += 4, minusSum += 4) {
      let a0 = correction(asymmetric, z, v128.load32_splat(minusSum));
      let a1 = correction(asymmetric, z, v128.load32_splat(minusSum + scaleStride));
      let a2 = correction(asymmetric, z, v128.load32_splat(minusSum + 2 * scaleStride));
      let a3 = correction(asymmetric, z, v128.load32_splat(minusSum + 3 * scaleStride));

      for (const groupEnd = q + 128; q < groupEnd; q += 32) {
        const w = v128.load(q);
        a0 = dotLow(lowEven(x0), lowOdd(x0), w, mask, a0);
        a1 = dotLow(lowEven(x1), lowOdd(x1), w, mask, a1);
        a2 = dotLow(lowEven(x2), lowOdd(x2), w, mask, a2);
        a3 = dotLow(lowEven(x3), lowOdd(x3), w, mask, a3);
        a0 = dotHigh(highEven(x0), highOdd(x0), w, mask, a0);
        a1 = dotHigh(highEven(x1), highOdd(x1), w, mask, a1);
        a2 = dotHigh(highEven(x2), highOdd(x2), w, mask, a2);
        a3 = dotHigh(highEven(x3), highOdd(x3), w, mask, a3);
        x0 += OCTET_BYTES; x1 += OCTET_BYTES; x2 += OCTET_BYTES; x3 += OCTET_BYTES;
      }

      f0 = accumulate(f0, a0, s, v128.load32_splat(xScale));
      f1 = accumulate(f1, a1, s, v128.load32_splat(xScale + scaleStride));
      f2 = accumulate(f2, a2, s, v128.load32_splat(xScale + 2 * scaleStride));
      f3 = accumulate(f3, a3, s, v128.load32_splat(xScale + 3 * scaleStride));
    }
  }
  const b = v128.load(bias);
  storeLanes(y, f32x4.add(f0, b), count);
  storeLanes(y + yStride, f32x4.add(f1, b), count);
  storeLanes(y + 2 * yStride, f32x4.add(f2, b), count);
  storeLanes(y + 3 * yStride, f32x4.add(f3, b), count);
}

@inline function linear(asymmetric: bool, q: usize, scale: usize, zero: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, groupsPerScale: i32): void {
  const weightGroups = (groups + groupsPerScale - 1) / groupsPerScale;
  const xStride = <usize>groups * GROUP_BYTES, scaleStride = <usize>groups << 2, yStride = <usize>rows << 2;
  for (let row = 0; row < rows; row += 8) {
    const count = rows - row;
    let token = 0, xt = x, xScaleT = xScale, minusSumT = minusSum, yt = y;
    for (; token + 4 <= tokens; token += 4, xt += 4 * xStride, xScaleT += 4 * scaleStride, minusSumT += 4 * scaleStride, yt += 4 * yStride) {
      tile4(asymmetric, q, scale, zero, bias, xt, xScaleT, minusSumT, yt, rows, count, groups, groupsPerScale);
      tile4(asymmetric, q + 16, scale + 8, zero + 4, bias + 16, xt, xScaleT, minusSumT, yt + 16, rows, count - 4, groups, groupsPerScale);
    }
    for (; token < tokens; token++, xt += xStride, xScaleT += scaleStride, minusSumT += scaleStride, yt += yStride)
      tile1(asymmetric, q, scale, zero, bias, xt, xScaleT, minusSumT, yt, count, groups, groupsPerScale);
    q += <usize>groups << 7;
    scale += <usize>weightGroups << 4;
    if (asymmetric) zero += <usize>weightGroups << 3;
    bias += 32;
    y += 32;
  }
}

export function linear_gptq_sym(q: usize, scale: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, groupsPerScale: i32): void {
  linear(false, q, scale, 0, bias, x, xScale, minusSum, y, tokens, rows, groups, groupsPerScale);
}

export function linear_gptq_asym(q: usize, scale: usize, zero: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, groupsPerScale: i32): void {
  linear(true, q, scale, zero, bias, x, xScale, minusSum, y, tokens, rows, groups, groupsPerScale);
}
