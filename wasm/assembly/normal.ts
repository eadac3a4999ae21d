// normal(x) for four lanes: the standard normal distribution's cumulative function, (1 + erf(x / sqrt 2)) / 2 = erfc(-x / sqrt 2) / 2.
// With t = |x| / sqrt 2: below 1, erf by an odd polynomial; from there erfc(t) = exp(-t^2) / t * p(1 / t^2), so that the left tail keeps its
// digits; exp takes t^2 in two parts. IEEE operations only; relative error about 1e-6 at most, down to the smallest normal result.
// Polynomials: Cephes ndtrf (S. Moshier), netlib.org/cephes/single.tgz. Reference: test/wasm/activation.test.ts, in f64.

import { expCall4 } from './exp';

@inline function step(p: v128, z: v128, c: f32): v128 {
  return f32x4.add(f32x4.mul(p, z), f32x4.splat(c));
}

export function normal4(x: v128): v128 {
  const one = f32x4.splat(1), half = f32x4.splat(0.5);
  const t = f32x4.mul(f32x4.abs(x), f32x4.splat(0.70710678118654752));

  // erf(t) = t p(t^2)
  let z = f32x4.mul(f32x4.mul(x, x), half);
  let p = f32x4.splat(7.853861353153693e-5);
  p = step(p, z, -8.010193625184903e-4);
  p = step(p, z, 5.188327685732524e-3);
  p = step(p, z, -2.685381193529856e-2);
  p = step(p, z, 1.128358514861418e-1);
  p = step(p, z, -3.761262582423300e-1);
  p = step(p, z, 1.128379165726710e+0);
  const erf = f32x4.mul(t, p);

  const q = f32x4.div(one, t);
  z = f32x4.mul(q, q);
  p = f32x4.splat(2.326819970068386e-2);
  p = step(p, z, -1.387039388740657e-1);
  p = step(p, z, 3.687424674597105e-1);
  p = step(p, z, -5.824733027278666e-1);
  p = step(p, z, 6.210004621745983e-1);
  p = step(p, z, -4.944515323274145e-1);
  p = step(p, z, 3.404879937665872e-1);
  p = step(p, z, -2.741127028184656e-1);
  p = step(p, z, 5.638259427386472e-1);
  let r = f32x4.splat(-1.047766399936249e+1);
  r = step(r, z, 1.297719955372516e+1);
  r = step(r, z, -7.495518717768503e+0);
  r = step(r, z, 2.921019019210786e+0);
  r = step(r, z, -1.015265279202700e+0);
  r = step(r, z, 4.218463358204948e-1);
  r = step(r, z, -2.820767439740514e-1);
  r = step(r, z, 5.641895067754075e-1);
  // x^2 / 2 = head^2 / 2 + (x - head)(x + head) / 2; the head has 12 bits, so its square is exact.
  const size = f32x4.abs(x), head = v128.and(size, i32x4.splat(0xfffff000));
  const rest = f32x4.mul(f32x4.mul(f32x4.sub(size, head), f32x4.add(size, head)), half);
  const tail = f32x4.mul(expCall4(f32x4.neg(f32x4.mul(f32x4.mul(head, head), half))), expCall4(f32x4.neg(rest)));
  const farErfc = f32x4.mul(f32x4.mul(tail, q), v128.bitselect(p, r, f32x4.lt(t, f32x4.splat(2))));

  const erfc = v128.bitselect(f32x4.sub(one, erf), farErfc, f32x4.lt(t, one));
  const left = f32x4.mul(half, erfc);
  return v128.bitselect(f32x4.sub(one, left), left, f32x4.gt(x, f32x4.splat(0)));
}
