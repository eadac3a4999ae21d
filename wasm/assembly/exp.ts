// exp(x) for four lanes: exp(x) = 2^n * exp(r), n = round(x * log2 e), r = x - n * ln 2 in two parts.
// Only IEEE multiply, add and integer shifts, so every machine gives the same bits. Within 2 ulp where the result is normal;
// below that it goes to 0 through the subnormals, above 88.73 it is infinite; NaN stays NaN.
// Polynomial and split of ln 2: Cephes expf (S. Moshier), netlib.org/cephes/single.tgz.
// Reference: test/wasm/exp.test.ts, Math.exp in f64.

// In memory, each four times: an inline v128.const takes V8 three instructions at every use.
// Bounds of x, log2 e, 1.5 * 2^23 + 2 * 127, ln 2 in two parts, six coefficients, 1. 355/512 has 9 bits, so n * 355/512 is exact.
const CONSTANTS = memory.data<f32>([
  -106, -106, -106, -106,
  90, 90, 90, 90,
  1.44269504088896341, 1.44269504088896341, 1.44269504088896341, 1.44269504088896341,
  12583166, 12583166, 12583166, 12583166,
  0.693359375, 0.693359375, 0.693359375, 0.693359375,
  -2.12194440e-4, -2.12194440e-4, -2.12194440e-4, -2.12194440e-4,
  1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4,
  1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3,
  8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3,
  4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2,
  1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1,
  5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1,
  1, 1, 1, 1,
]);

@inline export function exp4(x: v128): v128 {
  // pmax and pmin keep their first operand where it is NaN, and are one instruction each.
  x = f32x4.pmin(f32x4.pmax(x, v128.load(CONSTANTS)), v128.load(CONSTANTS, 16));
  // Rounds half to even; the lowest bits are those of n + 2 * 127.
  const magic = v128.load(CONSTANTS, 48), shifted = f32x4.add(f32x4.mul(x, v128.load(CONSTANTS, 32)), magic), n = f32x4.sub(shifted, magic);
  let r = f32x4.sub(x, f32x4.mul(n, v128.load(CONSTANTS, 64)));
  r = f32x4.sub(r, f32x4.mul(n, v128.load(CONSTANTS, 80)));
  let p = f32x4.add(f32x4.mul(v128.load(CONSTANTS, 96), r), v128.load(CONSTANTS, 112));
  p = f32x4.add(f32x4.mul(p, r), v128.load(CONSTANTS, 128));
  p = f32x4.add(f32x4.mul(p, r), v128.load(CONSTANTS, 144));
  p = f32x4.add(f32x4.mul(p, r), v128.load(CONSTANTS, 160));
  p = f32x4.add(f32x4.mul(p, r), v128.load(CONSTANTS, 176));
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), v128.load(CONSTANTS, 192));
  // 2^n in two factors, so that results beyond the normal range round once. What is above the exponents is shifted out.
  const half = i32x4.shr_s(shifted, 1);
  return f32x4.mul(f32x4.mul(p, i32x4.shl(half, 23)), i32x4.shl(i32x4.sub(shifted, half), 23));
}

/** exp4 as a call: where speed is elsewhere, its code is not repeated. */
export function expCall4(x: v128): v128 {
  return exp4(x);
}

/** y[i] = exp(x[i]). x, y [count] f32; 4 divides count. */
export function exp_f32(x: usize, y: usize, count: i32): void {
  for (let i = 0; i < count; i += 4) v128.store(y + ((<usize>i) << 2), expCall4(v128.load(x + ((<usize>i) << 2))));
}
