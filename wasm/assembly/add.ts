// add: residual += x
//   residual, x  [count] f32
// Element by element; split by elements. Reference: test/wasm/oracle.ts.

import { share } from './task';

/** The same over `bytes` bytes. */
@inline export function addInPlace(residual: usize, x: usize, bytes: usize): void {
  const whole = bytes & ~15;
  for (let k: usize = 0; k < whole; k += 16) v128.store(residual + k, f32x4.add(v128.load(residual + k), v128.load(x + k)));
  for (let k = whole; k < bytes; k += 4) store<f32>(residual + k, load<f32>(residual + k) + load<f32>(x + k));
}

export function add(task: usize, part: i32, parts: i32): void {
  const residual = load<usize>(task), x = load<usize>(task, 4), count = load<i32>(task, 8);
  const from = <usize>share(count, part, parts) << 2, to = <usize>share(count, part + 1, parts) << 2;
  addInPlace(residual + from, x + from, to - from);
}
