// linear_bnb4: y[t,n] = sum over k of table[code[n,k]] * absmax[block of n * in + k] * x[t,k] + bias[n], blocks over the flattened matrix.
// linear_bnb4_chunks: 32 divides `in` and the block size, so that no block ends inside a chunk. Buffers: linear_chunks.ts, where
//   tables  the parts of table[c] / max|table| * 8191 + 2^13, rounded: 14 bits, for 8 would add 0.6% to NF4's error
//   scale   absmax * max|table| / 8191
// linear_bnb4_blocks: any shape and block size, in f32 and as the checkpoint has it.
//   codes   [ceil(rows * cols / 2)] u8, the first of two in the high half
//   table   [16] f32
//   absmax  [blocks] f32
//   x       [tokens, cols] f32
//   y       [tokens, rows] f32
// Accumulation: table * x in f32 in order of channels inside a block, then times absmax and added, blocks in order, then the bias.
// Reference: test/wasm/oracle.ts, and core/formats for the dequantised weights.

import { TABLE } from './chunk_format';
import { linearChunks } from './linear_chunks';

export function linear_bnb4_chunks(q: usize, tables: usize, scale: usize, bias: usize, groupOctets: usize, x: usize, xScale: usize, minusSum: usize, y: usize, tokens: i32, rows: i32, groups: i32, octets: i32, chunks: i32): void {
  linearChunks(TABLE, false, q, tables, scale, 0, bias, groupOctets, x, xScale, minusSum, y, tokens, rows, groups, octets, chunks);
}

export function linear_bnb4_blocks(codes: usize, table: usize, absmax: usize, bias: usize, x: usize, y: usize, tokens: i32, rows: i32, cols: i32, blockSize: i32): void {
  /** Bits to shift the row's first byte by, and what is left of its first block. */
  let firstShift: u32 = 4, firstLeft = blockSize;
  for (let row = 0; row < rows; row++, bias += 4, y += 4) {
    let nextCodes = codes, nextAbsmax = absmax, nextShift = firstShift, nextLeft = firstLeft, from = x, to = y;
    for (let token = 0; token < tokens; token++, to += <usize>rows << 2) {
      let c = codes, a = absmax, shift = firstShift, left = firstLeft;
      let sum: f32 = 0;
      for (const end = from + (<usize>cols << 2); from < end; ) {
        const blockEnd = min(end, from + (<usize>left << 2));
        left -= <i32>(blockEnd - from >> 2);
        let inBlock: f32 = 0;
        for (; from < blockEnd; from += 4) {
          inBlock += load<f32>(table + (<usize>(load<u8>(c) >> <u8>shift & 15) << 2)) * load<f32>(from);
          if (shift == 0) c++;
          shift ^= 4;
        }
        sum += inBlock * load<f32>(a);
        if (left == 0) {
          left = blockSize;
          a += 4;
        }
      }
      store<f32>(to, sum + load<f32>(bias));
      nextCodes = c; nextAbsmax = a; nextShift = shift; nextLeft = left;
    }
    codes = nextCodes; absmax = nextAbsmax; firstShift = nextShift; firstLeft = nextLeft;
  }
}
