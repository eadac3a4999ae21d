// embed: y[t] = table[ids[t]] * scale
//   table  [entries, stride] f32 or f16 (finite), row-major: linear_dense's w, so a tied head shares it; 4 divides stride
//   ids    [count] i32, checked by the caller
//   y      [count, cols] f32
// One multiplication a value; exact when scale is 1. Split by ids. Reference: test/wasm/oracle.ts.

import { halfFactor, halfMask } from './constants';
import { loadHalf4, storeLanes } from './lanes';
import { share } from './task';

/** W is f32 or u16, which stands for f16. */
@inline function embed<W>(task: usize, part: i32, parts: i32): void {
  const table = load<usize>(task), ids = load<usize>(task, 4), y = load<usize>(task, 8), count = load<i32>(task, 12);
  const cols = load<i32>(task, 16), stride = load<usize>(task, 20), scale4 = v128.load32_splat(task, 24);
  const mask = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor), end = share(count, part + 1, parts);
  for (let i = share(count, part, parts); i < end; i++) {
    const row = table + <usize>load<i32>(ids + (<usize>i << 2)) * stride * sizeof<W>(), to = y + (<usize>i * cols << 2);
    for (let k = 0; k < cols; k += 4) {
      const from = row + <usize>k * sizeof<W>();
      storeLanes(to + (<usize>k << 2), f32x4.mul(isFloat<W>() ? v128.load(from) : loadHalf4(from, mask, factor), scale4), cols - k);
    }
  }
}

export function embed_f32(task: usize, part: i32, parts: i32): void {
  embed<f32>(task, part, parts);
}

export function embed_f16(task: usize, part: i32, parts: i32): void {
  embed<u16>(task, part, parts);
}
