// copy_columns: y[r, to .. to + count] = x[r, from .. from + count] for every row
//   x  [rows, xCols] f32, y [rows, yCols] f32
// Exact copy. Reference: test/wasm/oracle.ts.

export function copy_columns(x: usize, y: usize, rows: i32, xCols: i32, yCols: i32, from: i32, to: i32, count: i32): void {
  x += <usize>from << 2;
  y += <usize>to << 2;
  for (let row = 0; row < rows; row++, x += <usize>xCols << 2, y += <usize>yCols << 2) memory.copy(y, x, <usize>count << 2);
}
