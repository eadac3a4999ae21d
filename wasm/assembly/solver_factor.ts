// factor: U upper triangular with transposed(U) * U = inverse(H + damping * I), as l = transposed(U)
//   h       [cols, hStride] f32, its upper triangle
//   root    [stride, stride] f64 scratch: R upper triangular with R * transposed(R) = H + damping * I, so that U = inverse(R)
//   panels  [stride / 4, stride, 4] f64 scratch: U, four columns side by side
//   l       [stride, stride] f32: l[i,j] = U[j,i] for j <= i, 0 elsewhere
// stride = ceil(cols / 4) * 4; what lies beyond cols is the identity. All arithmetic in f64, pairs of channels summed apart and then together.
// Returns 1, or 0 when a pivot is not positive (or no number). Reference: gpu-worker/quantize/reference-kernels.ts.

const BLOCK: i32 = 32;

export function factor(h: usize, hStride: i32, root: usize, panels: usize, l: usize, cols: i32, stride: i32, damping: f64): i32 {
  const rowBytes = <usize>stride << 3;
  for (let i = 0; i < stride; i++) {
    const row = root + <usize>i * rowBytes, from = h + ((<usize>i * <usize>hStride) << 2);
    memory.fill(row, 0, rowBytes);
    if (i >= cols) { store<f64>(row + (<usize>i << 3), 1); continue; }
    for (let j = i; j < cols; j++) store<f64>(row + (<usize>j << 3), <f64>load<f32>(from + (<usize>j << 2)));
    store<f64>(row + (<usize>i << 3), load<f64>(row + (<usize>i << 3)) + damping);
  }
  for (let end = stride; end > 0; end -= BLOCK) {
    const begin = max(0, end - BLOCK);
    subtractDots(root, rowBytes, begin, end, stride);
    for (let j = end - 1; j >= begin; j--)
      if (!finishColumn(root, rowBytes, j, end)) return 0;
  }
  invert(root, panels, rowBytes, stride);
  const lBytes = <usize>stride << 2;
  for (let i = 0; i < stride; i++) {
    const panel = panels + <usize>(i >> 2) * <usize>stride * 32 + (<usize>(i & 3) << 3), to = l + <usize>i * lBytes;
    for (let j = 0; j <= i; j++) store<f32>(to + (<usize>j << 2), <f32>load<f64>(panel + (<usize>j << 5)));
    memory.fill(to + (<usize>(i + 1) << 2), 0, <usize>(stride - i - 1) << 2);
  }
  return 1;
}

@inline function sum2(v: v128): f64 {
  return f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1);
}

@inline function madd(sum: v128, a: v128, b: v128): v128 {
  return f64x2.add(sum, f64x2.mul(a, b));
}

@inline function subtract(pointer: usize, value: f64): void {
  store<f64>(pointer, load<f64>(pointer) - value);
}

/** R[i,j] -= sum over k >= end of R[i,k] * R[j,k], for j in [begin, end) and i < end. 4 divides begin, end and stride. */
function subtractDots(root: usize, rowBytes: usize, begin: i32, end: i32, stride: i32): void {
  const offset = <usize>end << 3, length = (<usize>(stride - end)) << 3;
  if (length == 0) return;
  for (let i = 0; i < end; i += 4) {
    const row = root + <usize>i * rowBytes + offset;
    for (let j = begin; j < end; j += 2) {
      let p = row, q = root + <usize>j * rowBytes + offset;
      let a0 = f64x2.splat(0), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
      for (const last = p + length; p < last; p += 16, q += 16) {
        const u = v128.load(q), v = v128.load(q + rowBytes);
        let x = v128.load(p);
        a0 = madd(a0, x, u); a1 = madd(a1, x, v);
        x = v128.load(p + rowBytes);
        b0 = madd(b0, x, u); b1 = madd(b1, x, v);
        x = v128.load(p + 2 * rowBytes);
        c0 = madd(c0, x, u); c1 = madd(c1, x, v);
        x = v128.load(p + 3 * rowBytes);
        d0 = madd(d0, x, u); d1 = madd(d1, x, v);
      }
      const to = root + <usize>i * rowBytes + (<usize>j << 3);
      subtract(to, sum2(a0)); subtract(to + 8, sum2(a1));
      subtract(to + rowBytes, sum2(b0)); subtract(to + rowBytes + 8, sum2(b1));
      subtract(to + 2 * rowBytes, sum2(c0)); subtract(to + 2 * rowBytes + 8, sum2(c1));
      subtract(to + 3 * rowBytes, sum2(d0)); subtract(to + 3 * rowBytes + 8, sum2(d1));
    }
  }
}

/** Column j of R, given the columns (j, end) and the dots behind end. What lies below the diagonal is left as garbage. */
function finishColumn(root: usize, rowBytes: usize, j: i32, end: i32): bool {
  const own = root + <usize>j * rowBytes;
  let pivot = load<f64>(own + (<usize>j << 3));
  for (let k = j + 1; k < end; k++) { const x = load<f64>(own + (<usize>k << 3)); pivot -= x * x; }
  if (!(pivot > 0)) return false;
  pivot = Math.sqrt(pivot);
  store<f64>(own + (<usize>j << 3), pivot);
  for (let i = 0; i < j; i++) {
    const row = root + <usize>i * rowBytes;
    let sum = load<f64>(row + (<usize>j << 3));
    for (let k = j + 1; k < end; k++) sum -= load<f64>(row + (<usize>k << 3)) * load<f64>(own + (<usize>k << 3));
    store<f64>(row + (<usize>j << 3), sum / pivot);
  }
  return true;
}

/** Four rows at a time from the last: U[i,j] = -(sum over k in (i, j] of R[i,k] * U[k,j]) / R[i,i]. */
function invert(root: usize, panels: usize, rowBytes: usize, stride: i32): void {
  const panelBytes = <usize>stride << 5;
  memory.fill(panels, 0, <usize>stride * rowBytes);
  for (let i = stride - 4; i >= 0; i -= 4) {
    const row = root + <usize>i * rowBytes, diagonal = panels + <usize>(i >> 2) * panelBytes + (<usize>i << 5);
    for (let r = 3; r >= 0; r--) {
      const own = row + <usize>r * rowBytes + (<usize>i << 3), pivot = load<f64>(own + (<usize>r << 3));
      store<f64>(diagonal + (<usize>r << 5) + (<usize>r << 3), 1 / pivot);
      for (let c = r + 1; c < 4; c++) {
        let sum: f64 = 0;
        for (let k = r + 1; k <= c; k++) sum += load<f64>(own + (<usize>k << 3)) * load<f64>(diagonal + (<usize>k << 5) + (<usize>c << 3));
        store<f64>(diagonal + (<usize>r << 5) + (<usize>c << 3), -sum / pivot);
      }
    }
    for (let j = i + 4; j < stride; j += 4) invertTile(row, panels + <usize>(j >> 2) * panelBytes, rowBytes, i, j);
  }
}

@inline function storeRow(panel: usize, low: v128, high: v128, pivot: f64): void {
  const factor = f64x2.splat(-1 / pivot);
  v128.store(panel, f64x2.mul(low, factor));
  v128.store(panel, f64x2.mul(high, factor), 16);
}

/** Rows i..i+3, columns j..j+3 of U, j > i + 3. */
@inline function invertTile(row: usize, panel: usize, rowBytes: usize, i: i32, j: i32): void {
  let a0 = f64x2.splat(0), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
  let p = row + (<usize>(i + 4) << 3), u = panel + (<usize>(i + 4) << 5);
  for (const end = panel + (<usize>(j + 4) << 5); u < end; u += 32, p += 8) {
    const low = v128.load(u), high = v128.load(u, 16);
    let x = v128.load64_splat(p);
    a0 = madd(a0, x, low); a1 = madd(a1, x, high);
    x = v128.load64_splat(p + rowBytes);
    b0 = madd(b0, x, low); b1 = madd(b1, x, high);
    x = v128.load64_splat(p + 2 * rowBytes);
    c0 = madd(c0, x, low); c1 = madd(c1, x, high);
    x = v128.load64_splat(p + 3 * rowBytes);
    d0 = madd(d0, x, low); d1 = madd(d1, x, high);
  }
  const to = panel + (<usize>i << 5), r0 = row + (<usize>i << 3), r1 = r0 + rowBytes, r2 = r1 + rowBytes, r3 = r2 + rowBytes;
  storeRow(to + 96, d0, d1, load<f64>(r3 + 24));
  let low = v128.load(to, 96), high = v128.load(to, 112);
  let x = v128.load64_splat(r2 + 24);
  storeRow(to + 64, madd(c0, x, low), madd(c1, x, high), load<f64>(r2 + 16));
  x = v128.load64_splat(r1 + 24);
  b0 = madd(b0, x, low); b1 = madd(b1, x, high);
  x = v128.load64_splat(r0 + 24);
  a0 = madd(a0, x, low); a1 = madd(a1, x, high);
  low = v128.load(to, 64); high = v128.load(to, 80);
  x = v128.load64_splat(r1 + 16);
  storeRow(to + 32, madd(b0, x, low), madd(b1, x, high), load<f64>(r1 + 8));
  x = v128.load64_splat(r0 + 16);
  a0 = madd(a0, x, low); a1 = madd(a1, x, high);
  low = v128.load(to, 32); high = v128.load(to, 48);
  x = v128.load64_splat(r0 + 8);
  storeRow(to, madd(a0, x, low), madd(a1, x, high), load<f64>(r0));
}
