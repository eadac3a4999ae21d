// linear_chunks: GPTQ's and bitsandbytes' product, for weights of up to 8 bits with one scale and one zero a weight group.
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
//   zero         [blocks, groups, 8] u8; 0: 2^(bits - 1) throughout; a table has none
//   bias         [blocks * 8] f32
//   groupOctets  [groups] i32
//   x8, xScale, minusSum: quantize_rows, with the factor 2^64 (1 for a table); x8 wide where dot.ts says so, and for a table from 4 tokens on; from then on in tiles, see tile.ts
//   format       2, 3, 4 or 8, the number of bits, or TABLE (chunk_format.ts)
//   y            [tokens, rows] f32
//   scratch      [parts, unpackedBytes of unpack_block.ts and SUMS_BYTES of tile.ts], from 4 tokens on
// blocks = ceil(rows / 8), octets and chunks are those of all groups; places beyond a group's channels meet an x8 of 0.
// Accumulation: integers inside a chunk (at most 32 places, exact: |sum| <= 32 * 127 * 2^14,
// and 32 * 1,023 * 2^8 for 8 bits), then f32 multiply and add, chunks in order,
// then the bias. The order is the same in every tile, so a row's bits do not depend on how many rows come with it.
// 8 bits take wide activations in both builds, see dot.ts, and so more levels of them.
// Layout and unsigned values with a zero-point correction: as llama.cpp's repacked Q4_0_8x8 (ggml-cpu/repack.cpp), cut to 128-bit lanes.
// Split by pieces of blocks. From 4 tokens on tiles of them share a block unpacked once, see unpack_block.ts; others multiply the packed weights.
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
  sumFactor,
  TABLE,
  thirdBits,
  weightBytes,
  wordsHigh,
  wordsHighNext,
  wordsLow,
  wordsLowNext,
} from './chunk_format';
import { bit2Mask, halfMask } from './constants';
import { byteSplat, dot, highEven, highOdd, lowEven, lowOdd, octetBytes } from './dot';
import { storeLanes } from './lanes';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd, pieceSize } from './pieces';
import { inSixes, narrowFour, narrowSixes, SUMS_BYTES, TILE_TOKENS, wideTiles } from './tile';
import { unpackBlock, unpackedBytes } from './unpack_block';

/** One token times one block of 8 rows. */
@inline function tile1Of(format: i32, q: usize, tables: usize, scale: usize, zero: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, groupOctets: usize, y: usize, count: i32, groups: i32): void {
  const mask = maskOf(format), half = i32x4.splat(halfMask), bytes = byteSplat(), lower = lowerLanesMask();
  const bit2 = i32x4.splat(bit2Mask), wide = isWide(format), asymmetric = zero != 0;
  let lowTable = bit2, highTable = bit2;
  if (format == TABLE) {
    lowTable = lowTableOf(inParts(TABLE), tables);
    highTable = highTableOf(inParts(TABLE), tables);
  }
  let f0 = f32x4.splat(0), f1 = f0, z0 = f0, z1 = f0;
  for (const lastGroup = groupOctets + (<usize>groups << 2); groupOctets < lastGroup; groupOctets += 4) {
    const s0 = scale4(format, scale, half), s1 = scale4(format, scale + 4 * scaleBytes(format), half);
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
  const factor = f32x4.splat(sumFactor(format));
  storeLanes(y, f32x4.add(f32x4.mul(f0, factor), v128.load(bias)), count);
  storeLanes(y + 16, f32x4.add(f32x4.mul(f1, factor), v128.load(bias, 16)), count - 4);
}

function tile1(format: i32, q: usize, tables: usize, scale: usize, zero: usize, bias: usize, x: usize, xScale: usize, minusSum: usize, groupOctets: usize, y: usize, count: i32, groups: i32): void {
  if (format == 4) tile1Of(4, q, tables, scale, zero, bias, x, xScale, minusSum, groupOctets, y, count, groups);
  else if (format == 8) tile1Of(8, q, tables, scale, zero, bias, x, xScale, minusSum, groupOctets, y, count, groups);
  else if (format == 3) tile1Of(3, q, tables, scale, zero, bias, x, xScale, minusSum, groupOctets, y, count, groups);
  else if (format == 2) tile1Of(2, q, tables, scale, zero, bias, x, xScale, minusSum, groupOctets, y, count, groups);
  else tile1Of(TABLE, q, tables, scale, zero, bias, x, xScale, minusSum, groupOctets, y, count, groups);
}

function unpack(format: i32, q: usize, tables: usize, scale: usize, zero: usize, groupOctets: usize, to: usize, groups: i32, octets: i32): void {
  if (format == 4) unpackBlock(4, q, tables, scale, zero, groupOctets, to, groups, octets);
  else if (format == 8) unpackBlock(8, q, tables, scale, zero, groupOctets, to, groups, octets);
  else if (format == 3) unpackBlock(3, q, tables, scale, zero, groupOctets, to, groups, octets);
  else if (format == 2) unpackBlock(2, q, tables, scale, zero, groupOctets, to, groups, octets);
  else unpackBlock(TABLE, q, tables, scale, zero, groupOctets, to, groups, octets);
}

export function linear_chunks(task: usize, part: i32, parts: i32): void {
  const tables = load<usize>(task, 4), groupOctets = load<usize>(task, 20), x = load<usize>(task, 24), xScale = load<usize>(task, 28), minusSum = load<usize>(task, 32);
  const tokens = load<i32>(task, 40), rows = load<i32>(task, 44), groups = load<i32>(task, 48), octets = load<i32>(task, 52), chunks = load<i32>(task, 56), format = load<i32>(task, 64);
  const wide = isWide(format) || inParts(format) && tokens >= TILE_TOKENS;
  const inTiles = tokens < TILE_TOKENS ? 0 : wide ? tokens : inSixes(tokens), isFour = !wide && tokens - inTiles == TILE_TOKENS, alone = isFour ? tokens : inTiles;
  const xStride = <usize>octets * octetBytes(wide), scaleStride = <usize>chunks << 2, yStride = <usize>rows << 2;
  const scratch = load<usize>(task, 60) + <usize>part * (unpackedBytes(groups, octets) + SUMS_BYTES), sums = scratch + unpackedBytes(groups, octets);
  const blockBytes = <usize>octets * weightBytes(format), blockScales = <usize>groups * 8 * scaleBytes(format), size = pieceSize(blockBytes, tokens);
  const zeros = load<usize>(task, 12), zeroStride: usize = zeros == 0 ? 0 : <usize>groups << 3;
  if (alone > 0) memory.fill(sums, 0, SUMS_BYTES);
  for (let piece = firstPiece(task, rows + 7 >> 3, size, part, parts); piece != NONE; piece = nextPiece(task, size, part, parts)) {
    const first = <usize>pieceBegin(piece), end = pieceEnd(piece) << 3;
    let q = load<usize>(task) + first * blockBytes, scale = load<usize>(task, 8) + first * blockScales, zero = zeros + first * zeroStride;
    let bias = load<usize>(task, 16) + (first << 5), y = load<usize>(task, 36) + (first << 5);
    for (let row = <i32>first << 3; row < end; row += 8) {
      const count = rows - row;
      if (alone > 0) {
        unpack(format, q, tables, scale, zero, groupOctets, scratch, groups, octets);
        const eights = format == 4 && zero == 0, behind = <usize>inTiles;
        if (wide) wideTiles(scratch, bias, x, xScale, groupOctets, sums, y, yStride, count, tokens, groups, sumFactor(format));
        else narrowSixes(scratch, bias, x, xScale, minusSum, eights, groupOctets, sums, y, yStride, count, inTiles, groups, sumFactor(format));
        if (isFour) narrowFour(scratch, bias, x + behind * xStride, xScale + behind * scaleStride, minusSum + behind * scaleStride, eights, groupOctets, sums, y + behind * yStride, yStride, count, groups, sumFactor(format));
      }
      for (let token = <usize>alone; token < <usize>tokens; token++)
        tile1(format, q, tables, scale, zero, bias, x + token * xStride, xScale + token * scaleStride, minusSum + token * scaleStride, groupOctets, y + token * yStride, count, groups);
      q += blockBytes;
      scale += blockScales;
      zero += zeroStride;
      bias += 32;
      y += 32;
    }
  }
}
