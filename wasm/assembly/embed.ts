// embed: y[t] = table[ids[t]] * scale
//   table  [entries, stride] f32 or f16 (finite), row-major: linear_dense's w, so a tied head shares it; 4 divides stride
//   ids    [count] i32, checked by the caller
//   y      [count, cols] f32
// One multiplication a value; exact when scale is 1. Reference: test/wasm/oracle.ts.

import { halfFactor, halfMask } from './constants';
import { loadHalf4, storeLanes } from './lanes';

/** W is f32 or u16, which stands for f16. */
@inline function embed<W>(table: usize, ids: usize, y: usize, count: i32, cols: i32, stride: i32, scale: f32): void {
  const mask = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor), scale4 = f32x4.splat(scale);
  for (let i = 0; i < count; i++, ids += 4, y += <usize>cols << 2) {
    const row = table + <usize>load<i32>(ids) * <usize>stride * sizeof<W>();
    for (let k = 0; k < cols; k += 4) {
      const from = row + <usize>k * sizeof<W>();
      storeLanes(y + (<usize>k << 2), f32x4.mul(isFloat<W>() ? v128.load(from) : loadHalf4(from, mask, factor), scale4), cols - k);
    }
  }
}

export function embed_f32(table: usize, ids: usize, y: usize, count: i32, cols: i32, stride: i32, scale: f32): void {
  embed<f32>(table, ids, y, count, cols, stride, scale);
}

export function embed_f16(table: usize, ids: usize, y: usize, count: i32, cols: i32, stride: i32, scale: f32): void {
  embed<u16>(table, ids, y, count, cols, stride, scale);
}
