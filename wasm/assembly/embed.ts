// embed: y[t] = table[ids[t]]
//   table  [vocab, stride] f32 or f16 (finite), row-major: linear_dense's w, so a tied head shares it; 4 divides stride
//   ids    [tokens] i32, checked by the caller
//   y      [tokens, cols] f32
// Exact. Reference: test/wasm/oracle.ts.

import { halfFactor, halfMask } from './constants';
import { loadHalf4, storeLanes } from './lanes';

export function embed_f32(table: usize, ids: usize, y: usize, tokens: i32, cols: i32, stride: i32): void {
  const bytes = <usize>cols << 2;
  for (let token = 0; token < tokens; token++, ids += 4, y += bytes) memory.copy(y, table + <usize>load<i32>(ids) * (<usize>stride << 2), bytes);
}

export function embed_f16(table: usize, ids: usize, y: usize, tokens: i32, cols: i32, stride: i32): void {
  const mask = i32x4.splat(halfMask), factor = f32x4.splat(halfFactor);
  for (let token = 0; token < tokens; token++, ids += 4, y += <usize>cols << 2) {
    const row = table + <usize>load<i32>(ids) * (<usize>stride << 1);
    for (let k = 0; k < cols; k += 4) storeLanes(y + (<usize>k << 2), loadHalf4(row + (<usize>k << 1), mask, factor), cols - k);
  }
}
