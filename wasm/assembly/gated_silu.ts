// gated_silu: y = gate / (1 + exp(-gate)) * up
//   gate, up, y  [ceil(count / 4) * 4] f32; what lies behind count is read and written, never used
// Element by element. Reference: test/wasm/oracle.ts, gatedSilu.

import { exp4 } from './exp';

export function gated_silu(gate: usize, up: usize, y: usize, count: i32): void {
  const one = f32x4.splat(1), end = gate + (<usize>count << 2);
  for (; gate < end; gate += 16, up += 16, y += 16) {
    const g = v128.load(gate);
    v128.store(y, f32x4.mul(f32x4.div(g, f32x4.add(one, exp4(f32x4.neg(g)))), v128.load(up)));
  }
}
