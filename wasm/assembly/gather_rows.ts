// gather_rows: y[i] = x[rows[i]]
//   x     [any, cols] f32
//   rows  [count] i32, checked by the caller
//   y     [count, cols] f32
// Exact copy; split by rows. Reference: test/wasm/oracle.ts.

import { share } from './task';

export function gather_rows(task: usize, part: i32, parts: i32): void {
  const x = load<usize>(task), rows = load<usize>(task, 4), y = load<usize>(task, 8), count = load<i32>(task, 12);
  const bytes = load<usize>(task, 16) << 2, end = share(count, part + 1, parts);
  for (let i = share(count, part, parts); i < end; i++) memory.copy(y + <usize>i * bytes, x + <usize>load<i32>(rows + (<usize>i << 2)) * bytes, bytes);
}
