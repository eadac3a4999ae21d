// energy: sum over 16 rows m of m * H * transposed(m)
//   m  [cols, 16] f32
//   h  [cols, hStride] f32, its upper triangle; 4 divides hStride
// Each row's products in f32, in order of columns; their sum in f64. Rows beyond the matrix are 0. Reference: reference-kernels.ts.

export function energy(m: usize, h: usize, cols: i32, hStride: i32): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < cols; i++) {
    const row = h + ((<usize>i * <usize>hStride) << 2), own = m + (<usize>i << 6);
    // Off the diagonal each product counts twice.
    const half = f32x4.splat(0.5 * load<f32>(row + (<usize>i << 2)));
    let a = f32x4.mul(half, v128.load(own)), b = f32x4.mul(half, v128.load(own, 16));
    let c = f32x4.mul(half, v128.load(own, 32)), d = f32x4.mul(half, v128.load(own, 48));
    let p = own + 64;
    for (let x = row + (<usize>(i + 1) << 2), end = row + (<usize>cols << 2); x < end; x += 4, p += 64) {
      const v = v128.load32_splat(x);
      a = f32x4.add(a, f32x4.mul(v, v128.load(p)));
      b = f32x4.add(b, f32x4.mul(v, v128.load(p, 16)));
      c = f32x4.add(c, f32x4.mul(v, v128.load(p, 32)));
      d = f32x4.add(d, f32x4.mul(v, v128.load(p, 48)));
    }
    sum += lanes(f32x4.mul(a, v128.load(own))) + lanes(f32x4.mul(b, v128.load(own, 16)));
    sum += lanes(f32x4.mul(c, v128.load(own, 32))) + lanes(f32x4.mul(d, v128.load(own, 48)));
  }
  return 2 * sum;
}

@inline function lanes(v: v128): f64 {
  return <f64>f32x4.extract_lane(v, 0) + <f64>f32x4.extract_lane(v, 1) + (<f64>f32x4.extract_lane(v, 2) + <f64>f32x4.extract_lane(v, 3));
}
