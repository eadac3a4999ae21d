// applied(x) by FUNCTION. 0: relu. 1: gelu, x · normal(x). 2: gelu by tanh, as x · sigmoid(2u). 3: silu, x · sigmoid(x).
// normal is the standard normal distribution's cumulative function by erf below |x| = √2 and erfc beyond, so that the left tail keeps its
// digits; polynomials of Cephes ndtrf (S. Moshier, netlib.org/cephes/single.tgz). Reference: applied in core/model/reference-rows.ts.
fn sigmoid(x: f32) -> f32 {
  // exp of −|x| never overflows.
  let e = exp(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn normal(x: f32) -> f32 {
  let t = abs(x) * 0.70710678118654752;
  if (t < 1.0) {
    let z = t * t;
    var p = 7.853861353153693e-5;
    p = p * z - 8.010193625184903e-4;
    p = p * z + 5.188327685732524e-3;
    p = p * z - 2.685381193529856e-2;
    p = p * z + 1.128358514861418e-1;
    p = p * z - 3.761262582423300e-1;
    p = p * z + 1.128379165726710e+0;
    return 0.5 + 0.5 * sign(x) * t * p;
  }
  let q = 1.0 / t;
  let z = q * q;
  var p: f32;
  if (t < 2.0) {
    p = 2.326819970068386e-2;
    p = p * z - 1.387039388740657e-1;
    p = p * z + 3.687424674597105e-1;
    p = p * z - 5.824733027278666e-1;
    p = p * z + 6.210004621745983e-1;
    p = p * z - 4.944515323274145e-1;
    p = p * z + 3.404879937665872e-1;
    p = p * z - 2.741127028184656e-1;
    p = p * z + 5.638259427386472e-1;
  } else {
    p = -1.047766399936249e+1;
    p = p * z + 1.297719955372516e+1;
    p = p * z - 7.495518717768503e+0;
    p = p * z + 2.921019019210786e+0;
    p = p * z - 1.015265279202700e+0;
    p = p * z + 4.218463358204948e-1;
    p = p * z - 2.820767439740514e-1;
    p = p * z + 5.641895067754075e-1;
  }
  let left = 0.5 * exp(-min(t * t, 120.0)) * q * p;
  return select(left, 1.0 - left, x > 0.0);
}

fn applied(x: f32) -> f32 {
  switch (u32(FUNCTION)) {
    case 0u: { return max(x, 0.0); }
    case 1u: { return x * normal(x); }
    case 2u: { return x * sigmoid(x * (1.5957691216057308 + 0.07135481627159632 * x * x)); }
    default: { return x * sigmoid(x); }
  }
}
