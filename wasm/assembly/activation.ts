// gated: y = f(gate) * up, or y = f(gate) where up is 0
//   f: relu       max(x, 0)
//      gelu       x * normal(x): by the error function
//      gelu_tanh  x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), written x / (1 + exp(-2 ...)), which keeps the left tail's digits
//      silu       x / (1 + exp(-x))
//   gate, up, y  [ceil(count / 4) * 4] f32; what lies behind count is read and written, never used; y may be gate
// Element by element; split by fours. Reference: test/wasm/oracle.ts, activation.

import { expCall4 } from './exp';
import { normal4 } from './normal';
import { share } from './task';

const RELU = 0, GELU = 1, GELU_TANH = 2, SILU = 3;

@inline function sigmoided(x: v128, inner: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), expCall4(f32x4.neg(inner))));
}

@inline function apply(f: i32, x: v128): v128 {
  if (f == RELU) return f32x4.max(x, f32x4.splat(0));
  if (f == GELU) return f32x4.mul(x, normal4(x));
  // 2 sqrt(2 / pi) and that times 0.044715
  if (f == GELU_TANH) return sigmoided(x, f32x4.mul(x, f32x4.add(f32x4.splat(1.5957691216057308), f32x4.mul(f32x4.mul(x, x), f32x4.splat(0.07135481627159632)))));
  return sigmoided(x, x);
}

@inline function gated(f: i32, task: usize, part: i32, parts: i32): void {
  const gate = load<usize>(task), up = load<usize>(task, 4), y = load<usize>(task, 8), fours = load<i32>(task, 12) + 3 >> 2;
  const end = <usize>share(fours, part + 1, parts) << 4;
  for (let at = <usize>share(fours, part, parts) << 4; at < end; at += 16) {
    const v = apply(f, v128.load(gate + at));
    v128.store(y + at, up == 0 ? v : f32x4.mul(v, v128.load(up + at)));
  }
}

// A kernel a function: in one, the compiler computes several for each element and selects.
export function gated_relu(task: usize, part: i32, parts: i32): void {
  gated(RELU, task, part, parts);
}

export function gated_gelu(task: usize, part: i32, parts: i32): void {
  gated(GELU, task, part, parts);
}

export function gated_gelu_tanh(task: usize, part: i32, parts: i32): void {
  gated(GELU_TANH, task, part, parts);
}

export function gated_silu(task: usize, part: i32, parts: i32): void {
  gated(SILU, task, part, parts);
}
