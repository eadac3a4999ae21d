// tanh(x) for four lanes: an odd polynomial below 0.625, 1 - 2 / (exp(2|x|) + 1) with x's sign above. IEEE operations only, within 3 ulp.
// Polynomial: Cephes tanhf (S. Moshier), netlib.org/cephes/single.tgz. Reference: test/wasm/activation.test.ts, Math.tanh in f64.

import { expCall4 } from './exp';

export function tanh4(x: v128): v128 {
  const one = f32x4.splat(1), size = f32x4.abs(x);
  const far = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(expCall4(f32x4.add(size, size)), one)));
  const signed = v128.or(far, v128.and(x, i32x4.splat(0x80000000)));
  const z = f32x4.mul(x, x);
  let p = f32x4.splat(-5.70498872745e-3);
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(2.06390887954e-2));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(-5.37397155531e-2));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(1.33314422036e-1));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(-3.33332819422e-1));
  const near = f32x4.add(f32x4.mul(f32x4.mul(p, z), x), x);
  return v128.bitselect(near, signed, f32x4.lt(size, f32x4.splat(0.625)));
}

/** y[i] = tanh(x[i]). x, y [count] f32; 4 divides count. */
export function tanh_f32(x: usize, y: usize, count: i32): void {
  for (let i = 0; i < count; i += 4) v128.store(y + ((<usize>i) << 2), tanh4(v128.load(x + ((<usize>i) << 2))));
}
