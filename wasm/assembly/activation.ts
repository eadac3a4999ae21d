// activate: y = f(x).   gated: y = f(gate) * up
//   relu       max(x, 0)
//   gelu       x * normal(x): by the error function
//   gelu_tanh  x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), written x / (1 + exp(-2 ...)), which keeps the left tail's digits
//   silu       x / (1 + exp(-x))
//   x, gate, up, y  [ceil(count / 4) * 4] f32; what lies behind count is read and written, never used
// Element by element. Reference: test/wasm/oracle.ts, activation.

import { exp4 } from './exp';
import { normal4 } from './normal';

@inline function relu(x: v128): v128 {
  return f32x4.max(x, f32x4.splat(0));
}

@inline function silu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(x))));
}

@inline function gelu(x: v128): v128 {
  return f32x4.mul(x, normal4(x));
}

@inline function gelu_tanh(x: v128): v128 {
  // 2 sqrt(2 / pi) and that times 0.044715
  const inner = f32x4.mul(x, f32x4.add(f32x4.splat(1.5957691216057308), f32x4.mul(f32x4.mul(x, x), f32x4.splat(0.07135481627159632))));
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(inner))));
}

export function activate_relu(x: usize, y: usize, count: i32): void {
  for (const end = x + (<usize>count << 2); x < end; x += 16, y += 16) v128.store(y, relu(v128.load(x)));
}

export function gated_relu(gate: usize, up: usize, y: usize, count: i32): void {
  for (const end = gate + (<usize>count << 2); gate < end; gate += 16, up += 16, y += 16) v128.store(y, f32x4.mul(relu(v128.load(gate)), v128.load(up)));
}

export function activate_gelu(x: usize, y: usize, count: i32): void {
  for (const end = x + (<usize>count << 2); x < end; x += 16, y += 16) v128.store(y, gelu(v128.load(x)));
}

export function gated_gelu(gate: usize, up: usize, y: usize, count: i32): void {
  for (const end = gate + (<usize>count << 2); gate < end; gate += 16, up += 16, y += 16) v128.store(y, f32x4.mul(gelu(v128.load(gate)), v128.load(up)));
}

export function activate_gelu_tanh(x: usize, y: usize, count: i32): void {
  for (const end = x + (<usize>count << 2); x < end; x += 16, y += 16) v128.store(y, gelu_tanh(v128.load(x)));
}

export function gated_gelu_tanh(gate: usize, up: usize, y: usize, count: i32): void {
  for (const end = gate + (<usize>count << 2); gate < end; gate += 16, up += 16, y += 16) v128.store(y, f32x4.mul(gelu_tanh(v128.load(gate)), v128.load(up)));
}

export function activate_silu(x: usize, y: usize, count: i32): void {
  for (const end = x + (<usize>count << 2); x < end; x += 16, y += 16) v128.store(y, silu(v128.load(x)));
}

export function gated_silu(gate: usize, up: usize, y: usize, count: i32): void {
  for (const end = gate + (<usize>count << 2); gate < end; gate += 16, up += 16, y += 16) v128.store(y, f32x4.mul(silu(v128.load(gate)), v128.load(up)));
}
