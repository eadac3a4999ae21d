// linear_int8 (LLM.int8()): y[t,n] = f32(sum over k of w[n,k] * x8[t,k]) * (xScale[t] * scale[n]) + bias[n] + (sum over outliers k of f32(w[n,k]) * x[t,k]) * scale[n]
//   q             [blocks, octets, 2, 8 rows] u32: octet of 8 channels, its channels 0..3 or 4..7, row; byte c holds w + 128
//   scale         [blocks * 8] f32, absmax of the row / 127
//   bias          [blocks * 8] f32
//   x             [tokens, cols] f32
//   x8, xScale, minusSum, outliers, outlierCount: quantize_tokens
//   y             [tokens, rows] f32
// blocks = ceil(rows / 8), octets = ceil(cols / 8) <= 16384, for then |sum| <= 2^31 - 1.
// Accumulation: integers over the whole row, exact; outliers in f32 in order of channels; then as the formula is written, left to right.
// Activations are wide in both builds (dot.ts). Sums of w + 128 may wrap on the way; the end fits.
// Split by pieces of blocks. Reference: test/wasm/oracle.ts, linearInt8; the method: T. Dettmers et al., arXiv 2208.07339.

import { byteSplat, dot, highEven, highOdd, lowEven, lowOdd, octetBytes } from './dot';
import { storeLanes } from './lanes';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd, pieceSize } from './pieces';

@inline function corrected(sum: v128, minus: v128): v128 {
  return i32x4.add(sum, i32x4.shl(minus, 7));
}

/** The last steps for one token times 4 rows; `q` is the block's, plus 16 for its second half. */
function finish(sum: v128, q: usize, scale: usize, bias: usize, x: usize, xScale: usize, outliers: usize, outlierCount: i32, y: usize, count: i32): void {
  const s = v128.load(scale);
  let out = f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(sum), f32x4.mul(v128.load32_splat(xScale), s)), v128.load(bias));
  if (outlierCount > 0) {
    const byte = i32x4.splat(0xff), offset = i32x4.splat(128);
    let rest = f32x4.splat(0);
    for (let i = 0; i < outlierCount; i++, outliers += 4) {
      const k = load<u32>(outliers);
      const words = v128.load(q + (<usize>(k >> 2) << 5));
      const w = i32x4.sub(v128.and(i32x4.shr_u(words, (k & 3) << 3), byte), offset);
      rest = f32x4.add(rest, f32x4.mul(f32x4.convert_i32x4_s(w), v128.load32_splat(x + (<usize>k << 2))));
    }
    out = f32x4.add(out, f32x4.mul(rest, s));
  }
  storeLanes(y, out, count);
}

/** One token times one block of 8 rows. */
@inline function tile1(q: usize, scale: usize, bias: usize, x: usize, x8: usize, xScale: usize, minusSum: usize, outliers: usize, outlierCount: usize, y: usize, count: i32, octets: i32): void {
  const bytes = byteSplat();
  let a = i32x4.splat(0), b = a, c = a, d = a, p = q;
  for (const end = q + (<usize>octets << 6); p < end; p += 64, x8 += octetBytes(true)) {
    let even = lowEven(true, x8), odd = lowOdd(true, x8);
    a = dot(true, even, odd, v128.load(p), bytes, a);
    b = dot(true, even, odd, v128.load(p, 16), bytes, b);
    even = highEven(true, x8); odd = highOdd(true, x8);
    c = dot(true, even, odd, v128.load(p, 32), bytes, c);
    d = dot(true, even, odd, v128.load(p, 48), bytes, d);
  }
  const minus = v128.load32_splat(minusSum), marked = load<i32>(outlierCount);
  finish(corrected(i32x4.add(a, c), minus), q, scale, bias, x, xScale, outliers, marked, y, count);
  finish(corrected(i32x4.add(b, d), minus), q + 16, scale + 16, bias + 16, x, xScale, outliers, marked, y + 16, count - 4);
}

/** Four tokens times 4 rows; `q` is the block's, plus 16 for its second half. */
@inline function tile4(q: usize, scale: usize, bias: usize, x: usize, x80: usize, xScale: usize, minusSum: usize, outliers: usize, outlierCount: usize, y: usize, rows: i32, count: i32, octets: i32, cols: i32): void {
  const bytes = byteSplat(), xStride = <usize>octets * octetBytes(true), floatStride = <usize>cols << 2, yStride = <usize>rows << 2;
  let x81 = x80 + xStride, x82 = x81 + xStride, x83 = x82 + xStride;
  let a = i32x4.splat(0), b = a, c = a, d = a, p = q;
  for (const end = q + (<usize>octets << 6); p < end; p += 64) {
    let w = v128.load(p);
    a = dot(true, lowEven(true, x80), lowOdd(true, x80), w, bytes, a);
    b = dot(true, lowEven(true, x81), lowOdd(true, x81), w, bytes, b);
    c = dot(true, lowEven(true, x82), lowOdd(true, x82), w, bytes, c);
    d = dot(true, lowEven(true, x83), lowOdd(true, x83), w, bytes, d);
    w = v128.load(p, 32);
    a = dot(true, highEven(true, x80), highOdd(true, x80), w, bytes, a);
    b = dot(true, highEven(true, x81), highOdd(true, x81), w, bytes, b);
    c = dot(true, highEven(true, x82), highOdd(true, x82), w, bytes, c);
    d = dot(true, highEven(true, x83), highOdd(true, x83), w, bytes, d);
    x80 += octetBytes(true); x81 += octetBytes(true); x82 += octetBytes(true); x83 += octetBytes(true);
  }
  finish(corrected(a, v128.load32_splat(minusSum)), q, scale, bias, x, xScale, outliers, load<i32>(outlierCount), y, count);
  finish(corrected(b, v128.load32_splat(minusSum, 4)), q, scale, bias, x + floatStride, xScale + 4, outliers + floatStride, load<i32>(outlierCount, 4), y + yStride, count);
  finish(corrected(c, v128.load32_splat(minusSum, 8)), q, scale, bias, x + 2 * floatStride, xScale + 8, outliers + 2 * floatStride, load<i32>(outlierCount, 8), y + 2 * yStride, count);
  finish(corrected(d, v128.load32_splat(minusSum, 12)), q, scale, bias, x + 3 * floatStride, xScale + 12, outliers + 3 * floatStride, load<i32>(outlierCount, 12), y + 3 * yStride, count);
}

export function linear_int8(task: usize, part: i32, parts: i32): void {
  const tokens = load<i32>(task, 40), rows = load<i32>(task, 44), cols = load<i32>(task, 48), octets = load<i32>(task, 52);
  const xStride = <usize>octets * octetBytes(true), floatStride = <usize>cols << 2, yStride = <usize>rows << 2, blocks = rows + 7 >> 3;
  const blockBytes = <usize>octets << 6, size = pieceSize(blockBytes, tokens);
  for (let piece = firstPiece(task, blocks, size, part, parts); piece != NONE; piece = nextPiece(task, size, part, parts)) {
    const first = <usize>pieceBegin(piece), end = pieceEnd(piece) << 3, before = first << 5;
    let q = load<usize>(task) + first * blockBytes, scale = load<usize>(task, 4) + before, bias = load<usize>(task, 8) + before, y = load<usize>(task, 36) + before;
    for (let row = <i32>first << 3; row < end; row += 8) {
      let xt = load<usize>(task, 12), x8t = load<usize>(task, 16), scaleT = load<usize>(task, 20), minusT = load<usize>(task, 24), outliersT = load<usize>(task, 28), countT = load<usize>(task, 32);
      let token = 0, yt = y;
      for (; token + 4 <= tokens; token += 4) {
        for (let half: usize = 0; half < 32; half += 16)
          tile4(q + half, scale + half, bias + half, xt, x8t, scaleT, minusT, outliersT, countT, yt + half, rows, rows - row - <i32>(half >> 2), octets, cols);
        xt += 4 * floatStride; x8t += 4 * xStride; scaleT += 16; minusT += 16; outliersT += 4 * floatStride; countT += 16; yt += 4 * yStride;
      }
      for (; token < tokens; token++) {
        tile1(q, scale, bias, xt, x8t, scaleT, minusT, outliersT, countT, yt, rows - row, octets);
        xt += floatStride; x8t += xStride; scaleT += 4; minusT += 4; outliersT += floatStride; countT += 4; yt += yStride;
      }
      q += blockBytes;
      scale += 32;
      bias += 32;
      y += 32;
    }
  }
}
