// exp(x) for four lanes: exp(x) = 2^n * exp(r), n = round(x * log2 e), r = x - n * ln 2 in two parts.
// Only IEEE multiply, add and integer shifts, so every machine gives the same bits. Within 2 ulp where the result is normal;
// below that it goes to 0 through the subnormals, above 88.73 it is infinite; NaN stays NaN.
// Polynomial and split of ln 2: Cephes expf (S. Moshier), netlib.org/cephes/single.tgz.
// Reference: test/wasm/exp.test.ts, Math.exp in f64.

@inline export function exp4(x: v128): v128 {
  // pmax and pmin keep their first operand where it is NaN, and are one instruction each.
  x = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-106)), f32x4.splat(90));
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504088896341)));
  // 355/512 has 9 bits, so n * 355/512 is exact.
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.9875691500e-4);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.3981999507e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1));
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1));
  // 2^n in two factors, so that results beyond the normal range round once.
  const exponent = i32x4.sub(f32x4.add(n, f32x4.splat(12582912)), i32x4.splat(0x4b400000));
  const half = i32x4.shr_s(exponent, 1);
  const bias = i32x4.splat(127);
  const first = i32x4.shl(i32x4.add(half, bias), 23);
  const second = i32x4.shl(i32x4.add(i32x4.sub(exponent, half), bias), 23);
  return f32x4.mul(f32x4.mul(p, first), second);
}

/** exp4 as a call: where speed is elsewhere, its code is not repeated. */
export function expCall4(x: v128): v128 {
  return exp4(x);
}

/** y[i] = exp(x[i]). x, y [count] f32; 4 divides count. */
export function exp_f32(x: usize, y: usize, count: i32): void {
  for (let i = 0; i < count; i += 4) v128.store(y + ((<usize>i) << 2), expCall4(v128.load(x + ((<usize>i) << 2))));
}
