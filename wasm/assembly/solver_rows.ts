// Rows: 16 rows of a matrix side by side, so that one vector holds one column of four rows
//   rows     [16, cols] f32
//   columns  [cols, 16] f32
//   levels   [cols, 16] u8

/** order [cols] i32: which column of `rows` stands i-th. Rows from `count` on are 0. */
export function transpose_rows(rows: usize, order: usize, columns: usize, cols: i32, count: i32): void {
  const rowBytes = <usize>cols << 2;
  for (let i = 0; i < cols; i++, columns += 64) {
    const from = rows + (<usize>load<i32>(order + (<usize>i << 2)) << 2);
    for (let row = 0; row < 16; row++)
      store<f32>(columns + (<usize>row << 2), row < count ? load<f32>(from + <usize>row * rowBytes) : 0);
  }
}

/** levels → out [16, cols] u8, in the order of the sweep. */
export function scatter_levels(levels: usize, out: usize, cols: i32, count: i32): void {
  for (let i = 0; i < cols; i++, levels += 16)
    for (let row = 0; row < count; row++) store<u8>(out + <usize>row * <usize>cols + <usize>i, load<u8>(levels + <usize>row));
}
