// softcap: x = cap * tanh(x / cap)
//   x  [ceil(count / 4) * 4] f32; what lies behind count is changed, never used
// Element by element, in place; split by fours. Reference: test/wasm/oracle.ts.

import { tanh4 } from './tanh';
import { share } from './task';

@inline export function capped(x: v128, cap: v128): v128 {
  return f32x4.mul(cap, tanh4(f32x4.div(x, cap)));
}

export function softcap(task: usize, part: i32, parts: i32): void {
  const x = load<usize>(task), fours = load<i32>(task, 4) + 3 >> 2, cap = v128.load32_splat(task, 8);
  const end = x + (<usize>share(fours, part + 1, parts) << 4);
  for (let at = x + (<usize>share(fours, part, parts) << 4); at < end; at += 16) v128.store(at, capped(v128.load(at), cap));
}
