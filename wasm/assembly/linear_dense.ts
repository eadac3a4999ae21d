// linear_dense: y[t,n] = sum over k of x[t,k] * w[n,k] + bias[n]
//   w     [ceil(rows / 4) * 4, stride] f32 or f16 (finite), row-major; channels and rows beyond the matrix are 0
//   x     [tokens, stride] f32; channels beyond `in` are 0 (pad_rows)
//   bias  [ceil(rows / 4) * 4] f32
//   y     [tokens, rows] f32
//   scratch  [parts, 4, stride] f32, for f16 and several tokens: four rows, widened once for all of them
// 4 divides stride = ceil(in / 4) * 4. f16 widens to f32 exactly.
// Accumulation in f32: lane j of 4 adds channels j, j + 4, ... in order, then (l0 + l1) + (l2 + l3), then the bias; the same in both tiles.
// Split by pieces of fours of rows. Reference: test/wasm/oracle.ts, linear.

import { halfFactor, halfMask } from './constants';
import { loadHalf4, storeLanes, sumLanes4 } from './lanes';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd, pieceSize } from './pieces';

/** W is f32 or u16, which stands for f16. */
@inline function load4<W>(pointer: usize, mask: v128, factor: v128): v128 {
  if (isFloat<W>()) return v128.load(pointer);
  return loadHalf4(pointer, mask, factor);
}

@inline function madd(sum: v128, x: v128, w: v128): v128 {
  return f32x4.add(sum, f32x4.mul(x, w));
}

/** One token times 4 rows. */
@inline function tile1<W>(w: usize, bias: usize, x: usize, y: usize, count: i32, stride: i32): void {
  const mask = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor), rowBytes = <usize>stride * sizeof<W>();
  const end = w + rowBytes;
  let a = f32x4.splat(0), b = a, c = a, d = a;
  for (; w < end; w += 4 * sizeof<W>(), x += 16) {
    const v = v128.load(x);
    a = madd(a, v, load4<W>(w, mask, factor));
    b = madd(b, v, load4<W>(w + rowBytes, mask, factor));
    c = madd(c, v, load4<W>(w + 2 * rowBytes, mask, factor));
    d = madd(d, v, load4<W>(w + 3 * rowBytes, mask, factor));
  }
  storeLanes(y, f32x4.add(sumLanes4(a, b, c, d), v128.load(bias)), count);
}

/** Two tokens times 4 rows of f32. */
function tile2(w: usize, bias: usize, x: usize, y: usize, rows: i32, count: i32, stride: i32): void {
  const rowBytes = <usize>stride << 2, end = w + rowBytes;
  let a = f32x4.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  for (; w < end; w += 16, x += 16) {
    const v = v128.load(x), u = v128.load(x + rowBytes);
    let weights = v128.load(w);
    a = madd(a, v, weights); e = madd(e, u, weights);
    weights = v128.load(w + rowBytes);
    b = madd(b, v, weights); f = madd(f, u, weights);
    weights = v128.load(w + 2 * rowBytes);
    c = madd(c, v, weights); g = madd(g, u, weights);
    weights = v128.load(w + 3 * rowBytes);
    d = madd(d, v, weights); h = madd(h, u, weights);
  }
  storeLanes(y, f32x4.add(sumLanes4(a, b, c, d), v128.load(bias)), count);
  storeLanes(y + (<usize>rows << 2), f32x4.add(sumLanes4(e, f, g, h), v128.load(bias)), count);
}

/** [4, stride] f16 to f32. */
function widen(w: usize, to: usize, stride: i32): void {
  const mask = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor);
  for (const end = w + (<usize>stride << 3); w < end; w += 8, to += 16) v128.store(to, loadHalf4(w, mask, factor));
}

@inline function linear<W>(task: usize, part: i32, parts: i32): void {
  const x = load<usize>(task, 8), tokens = load<i32>(task, 16), rows = load<i32>(task, 20), stride = load<i32>(task, 24);
  const xStride = <usize>stride << 2, yStride = <usize>rows << 2, fours = rows + 3 >> 2;
  const scratch = load<usize>(task, 28) + <usize>part * 4 * xStride, fourBytes = 4 * <usize>stride * sizeof<W>(), size = pieceSize(<usize>fourBytes, tokens);
  for (let piece = firstPiece(task, fours, size, part, parts); piece != NONE; piece = nextPiece(task, size, part, parts)) {
    const first = <usize>pieceBegin(piece), end = pieceEnd(piece) << 2;
    let w = load<usize>(task) + first * fourBytes, bias = load<usize>(task, 4) + (first << 4), y = load<usize>(task, 12) + (first << 4);
    for (let row = <i32>first << 2; row < end; row += 4) {
      let token = 0, xt = x, yt = y;
      if (tokens >= 2) {
        let wide = w;
        if (!isFloat<W>()) {
          widen(w, scratch, stride);
          wide = scratch;
        }
        for (; token + 2 <= tokens; token += 2, xt += 2 * xStride, yt += 2 * yStride) tile2(wide, bias, xt, yt, rows, rows - row, stride);
      }
      if (token < tokens) tile1<W>(w, bias, xt, yt, rows - row, stride);
      w += fourBytes;
      bias += 16;
      y += 16;
    }
  }
}

export function linear_dense_f32(task: usize, part: i32, parts: i32): void {
  linear<f32>(task, part, parts);
}

export function linear_dense_f16(task: usize, part: i32, parts: i32): void {
  linear<u16>(task, part, parts);
}
