// add: residual += x
//   residual, x  [count] f32
// Element by element. Reference: test/wasm/oracle.ts.

/** The same over `bytes` bytes. */
@inline export function addInPlace(residual: usize, x: usize, bytes: usize): void {
  const whole = bytes & ~15;
  for (let k: usize = 0; k < whole; k += 16) v128.store(residual + k, f32x4.add(v128.load(residual + k), v128.load(x + k)));
  for (let k = whole; k < bytes; k += 4) store<f32>(residual + k, load<f32>(residual + k) + load<f32>(x + k));
}

export function add(residual: usize, x: usize, count: i32): void {
  addInPlace(residual, x, <usize>count << 2);
}
