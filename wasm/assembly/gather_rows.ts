// gather_rows: y[i] = x[rows[i]]
//   x     [any, cols] f32
//   rows  [count] i32, checked by the caller
//   y     [count, cols] f32
// Exact copy. Reference: test/wasm/oracle.ts.

export function gather_rows(x: usize, rows: usize, y: usize, count: i32, cols: i32): void {
  const bytes = <usize>cols << 2;
  for (let i = 0; i < count; i++, rows += 4, y += bytes) memory.copy(y, x + <usize>load<i32>(rows) * bytes, bytes);
}
