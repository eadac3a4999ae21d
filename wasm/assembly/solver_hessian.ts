// Hessian: H[i,j] += sum over t of x[t,i] * x[t,j], for i <= j
//   x       [tokens, cols] f32
//   panels  [stride / 8, tokens, 8] f32: eight columns of x side by side; columns beyond the matrix are 0
//   h       [stride, stride] f32; only tiles of 8 x 8 on and above the diagonal are touched
// 8 divides stride. Each product is summed in f32 over one call's tokens, in order, then added to h once: the order does not depend on
// how panels are shared among threads. A panel of 512 tokens is 16 kB, so that both of a tile's stay in the first cache.
// Reference: test/gpu-worker/quantize/solver-kernels.test.ts.

export function pack_panels(x: usize, panels: usize, tokens: i32, cols: i32): void {
  const rowBytes = <usize>cols << 2;
  for (let first = 0; first < cols; first += 8) {
    const count = min(8, cols - first);
    let from = x + (<usize>first << 2);
    for (let token = 0; token < tokens; token++, from += rowBytes, panels += 32) {
      if (count == 8) {
        v128.store(panels, v128.load(from));
        v128.store(panels, v128.load(from, 16), 16);
        continue;
      }
      memory.fill(panels, 0, 32);
      memory.copy(panels, from, <usize>count << 2);
    }
  }
}

@inline function madd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

@inline function addTo(pointer: usize, low: v128, high: v128): void {
  v128.store(pointer, f32x4.add(v128.load(pointer), low));
  v128.store(pointer, f32x4.add(v128.load(pointer, 16), high), 16);
}

/** Four rows of a tile: h[a's columns 0..3, b's columns 0..7]. */
@inline function tile(a: usize, b: usize, tokens: i32, h: usize, rowBytes: usize): void {
  let a0 = f32x4.splat(0), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
  for (const end = b + (<usize>tokens << 5); b < end; a += 32, b += 32) {
    const low = v128.load(b), high = v128.load(b, 16);
    let x = v128.load32_splat(a);
    a0 = madd(a0, x, low); a1 = madd(a1, x, high);
    x = v128.load32_splat(a, 4);
    b0 = madd(b0, x, low); b1 = madd(b1, x, high);
    x = v128.load32_splat(a, 8);
    c0 = madd(c0, x, low); c1 = madd(c1, x, high);
    x = v128.load32_splat(a, 12);
    d0 = madd(d0, x, low); d1 = madd(d1, x, high);
  }
  addTo(h, a0, a1);
  addTo(h + rowBytes, b0, b1);
  addTo(h + 2 * rowBytes, c0, c1);
  addTo(h + 3 * rowBytes, d0, d1);
}

/** The tiles of panels first, first + step, ... with every panel up to them. */
export function syrk(panels: usize, h: usize, tokens: i32, stride: i32, first: i32, step: i32): void {
  const panelBytes = <usize>tokens << 5, rowBytes = <usize>stride << 2, count = stride >> 3;
  for (let column = first; column < count; column += step) {
    const b = panels + <usize>column * panelBytes;
    for (let row = 0; row <= column; row++) {
      const a = panels + <usize>row * panelBytes, to = h + <usize>row * 8 * rowBytes + (<usize>column << 5);
      tile(a, b, tokens, to, rowBytes);
      tile(a + 16, b, tokens, to + 4 * rowBytes, rowBytes);
    }
  }
}
