// pad_rows: copies x [tokens, cols] f32 to padded [tokens, stride] f32, zeros behind each row.
// Exact copy; split by tokens. Reference: test/wasm/oracle.ts.

import { share } from './task';

export function pad_rows(task: usize, part: i32, parts: i32): void {
  const tokens = load<i32>(task, 8), bytes = load<usize>(task, 12) << 2, strideBytes = load<usize>(task, 16) << 2;
  const first = share(tokens, part, parts), end = share(tokens, part + 1, parts);
  let x = load<usize>(task) + <usize>first * bytes, padded = load<usize>(task, 4) + <usize>first * strideBytes;
  for (let token = first; token < end; token++, x += bytes, padded += strideBytes) {
    memory.copy(padded, x, bytes);
    memory.fill(padded + bytes, 0, strideBytes - bytes);
  }
}
