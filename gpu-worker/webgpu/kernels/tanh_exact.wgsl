// tanh(x): an odd polynomial below 0.625 (Cephes tanhf, S. Moshier, netlib.org/cephes/single.tgz), 1 − 2 / (exp(2|x|) + 1) with x's sign
// above. WGSL's own tanh may cancel near 0.
fn tanhExact(x: f32) -> f32 {
  let size = abs(x);
  if (size >= 0.625) { return sign(x) * (1.0 - 2.0 / (exp(2.0 * min(size, 40.0)) + 1.0)); }
  let z = x * x;
  var p = -5.70498872745e-3;
  p = p * z + 2.06390887954e-2;
  p = p * z - 5.37397155531e-2;
  p = p * z + 1.33314422036e-1;
  p = p * z - 3.33332819422e-1;
  return p * z * x + x;
}
