// linear_bnb4_blocks: y[t,n] = sum over k of table[code[n,k]] * absmax[block of n * in + k] * x[t,k] + bias[n], blocks over the flattened matrix;
// any shape and block size, in f32 and as the checkpoint has it. Where no block ends inside a chunk, linear_chunks.ts does it, with
//   tables  the parts of table[c] / max|table| * 8191 + 2^13, rounded: 14 bits, for 8 would add 0.6% to NF4's error
//   scale   absmax * max|table| / 8191
// Here:
//   codes   [ceil(rows * cols / 2)] u8, the first of two in the high half
//   table   [16] f32
//   absmax  [blocks] f32
//   x       [tokens, cols] f32
//   y       [tokens, rows] f32
// Accumulation: table * x in f32 in order of channels inside a block, then times absmax and added, blocks in order, then the bias.
// Split by pieces of rows. Reference: test/wasm/oracle.ts, and core/formats for the dequantised weights.

import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd, pieceSize } from './pieces';

export function linear_bnb4_blocks(task: usize, part: i32, parts: i32): void {
  const codes = load<usize>(task), table = load<usize>(task, 4), absmax = load<usize>(task, 8), bias = load<usize>(task, 12), x = load<usize>(task, 16), y = load<usize>(task, 20);
  const tokens = load<i32>(task, 24), rows = load<i32>(task, 28), cols = load<i32>(task, 32), blockSize = load<i32>(task, 36);
  const size = pieceSize(<usize>cols, tokens);
  for (let piece = firstPiece(task, rows, size, part, parts); piece != NONE; piece = nextPiece(task, size, part, parts)) {
    for (let row = pieceBegin(piece), end = pieceEnd(piece); row < end; row++) {
      const first = <u64>row * cols, block = <u32>(first / blockSize), firstLeft = blockSize - <i32>(first % blockSize);
      let from = x, to = y + (<usize>row << 2);
      for (let token = 0; token < tokens; token++, to += <usize>rows << 2) {
        let c = codes + <usize>(first >> 1), a = absmax + (<usize>block << 2), left = firstLeft;
        /** Bits to shift the first byte by. */
        let shift = first & 1 ? 0 : 4;
        let sum: f32 = 0;
        for (const rowEnd = from + (<usize>cols << 2); from < rowEnd; ) {
          const blockEnd = min(rowEnd, from + (<usize>left << 2));
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
        store<f32>(to, sum + load<f32>(bias + (<usize>row << 2)));
      }
    }
  }
}
