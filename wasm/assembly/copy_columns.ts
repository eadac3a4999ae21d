// copy_columns: y[r, to .. to + count] = x[r, from .. from + count] for every row
//   x  [rows, xCols] f32, y [rows, yCols] f32
// Exact copy; split by rows. Reference: test/wasm/oracle.ts.

import { share } from './task';

export function copy_columns(task: usize, part: i32, parts: i32): void {
  const rows = load<i32>(task, 8), xBytes = load<usize>(task, 12) << 2, yBytes = load<usize>(task, 16) << 2;
  const first = share(rows, part, parts), end = share(rows, part + 1, parts);
  let x = load<usize>(task) + (load<usize>(task, 20) << 2) + <usize>first * xBytes;
  let y = load<usize>(task, 4) + (load<usize>(task, 24) << 2) + <usize>first * yBytes;
  const bytes = load<usize>(task, 28) << 2;
  for (let row = first; row < end; row++, x += xBytes, y += yBytes) memory.copy(y, x, bytes);
}
