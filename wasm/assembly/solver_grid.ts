// grid: scale and zero point of 16 rows' levels, from some of their columns
//   w      [count, 16] f32
//   scale  [16] f32      zero  [16] f32, a whole number
// Ranges hold 0. symmetric: as far down as up, zero = (levels + 1) / 2. Otherwise zero = nearest(-low / scale), at least 1.
// mse: of 80 shrinks by 1/100 the first with the least sum over columns of |w - its level's value|^2.4, each sum in order in f32.
// The fifth root in |e|^2.4 = e^2 * (e^2)^(1/5) is by Newton's steps for c^(-1/5), within 1e-6. Reference: gpu-worker/quantize/grid.ts.

export function grid_rows(w: usize, count: i32, scale: usize, zero: usize, levels: f32, symmetric: bool, mse: bool): void {
  for (let lane: usize = 0; lane < 64; lane += 16) grid4(w + lane, count, scale + lane, zero + lane, levels, symmetric, mse);
}

function grid4(w: usize, count: i32, scale: usize, zero: usize, levels: f32, symmetric: bool, mse: bool): void {
  const none = f32x4.splat(0);
  let low = none, high = none;
  for (let i = 0, from = w; i < count; i++, from += 64) {
    const x = v128.load(from);
    low = f32x4.min(low, x);
    high = f32x4.max(high, x);
  }
  const empty = v128.and(f32x4.eq(low, none), f32x4.eq(high, none));
  if (symmetric) { high = f32x4.max(f32x4.neg(low), high); low = f32x4.neg(high); }
  low = v128.bitselect(f32x4.splat(-1), low, empty);
  high = v128.bitselect(f32x4.splat(1), high, empty);
  range(low, high, scale, zero, levels, symmetric);
  if (!mse) return;
  let best = f32x4.splat(f32.MAX_VALUE), bestScale = v128.load(scale), bestZero = v128.load(zero);
  for (let step = 0; step < 80; step++) {
    const shrink = f32x4.splat(<f32>(1.0 - <f64>step / 100.0));
    range(f32x4.mul(low, shrink), f32x4.mul(high, shrink), scale, zero, levels, symmetric);
    const s = v128.load(scale), z = v128.load(zero), error = cost(w, count, s, z, levels);
    const better = f32x4.lt(error, best);
    best = v128.bitselect(error, best, better);
    bestScale = v128.bitselect(s, bestScale, better);
    bestZero = v128.bitselect(z, bestZero, better);
  }
  v128.store(scale, bestScale);
  v128.store(zero, bestZero);
}

@inline function range(low: v128, high: v128, scale: usize, zero: usize, levels: f32, symmetric: bool): void {
  let s = f32x4.div(f32x4.sub(high, low), f32x4.splat(levels)), z = f32x4.splat((levels + 1) / 2);
  if (!symmetric) {
    z = f32x4.nearest(f32x4.div(f32x4.neg(low), s));
    const isZero = f32x4.lt(z, f32x4.splat(0.5));
    s = v128.bitselect(f32x4.div(high, f32x4.splat(levels - 1)), s, isZero);
    z = v128.bitselect(f32x4.splat(1), z, isZero);
  }
  v128.store(scale, s);
  v128.store(zero, z);
}

/** Level of w, 0 to levels, and its value scale * (level - zero). */
@inline export function levelOf(w: v128, s: v128, z: v128, levels: f32): v128 {
  return f32x4.min(f32x4.max(f32x4.add(f32x4.nearest(f32x4.div(w, s)), z), f32x4.splat(0)), f32x4.splat(levels));
}

@inline export function valueOf(level: v128, s: v128, z: v128): v128 {
  return f32x4.mul(s, f32x4.sub(level, z));
}

function cost(w: usize, count: i32, s: v128, z: v128, levels: f32): v128 {
  let sum = f32x4.splat(0);
  for (let i = 0; i < count; i++, w += 64) {
    const x = v128.load(w), error = f32x4.sub(valueOf(levelOf(x, s, z, levels), s, z), x), c = f32x4.mul(error, error);
    // 1.2 * 0x3f800000: the exponent of c^(-1/5), the mantissa within 5%.
    let r = i32x4.sub(i32x4.splat(1278200218), i32x4.trunc_sat_f32x4_s(f32x4.mul(f32x4.convert_i32x4_s(c), f32x4.splat(0.2))));
    for (let step = 0; step < 3; step++) {
      const r2 = f32x4.mul(r, r), r5 = f32x4.mul(f32x4.mul(r2, r2), r);
      r = f32x4.mul(r, f32x4.sub(f32x4.splat(1.2), f32x4.mul(f32x4.splat(0.2), f32x4.mul(c, r5))));
    }
    const r2 = f32x4.mul(r, r);
    sum = f32x4.add(sum, f32x4.mul(c, f32x4.mul(c, f32x4.mul(r2, r2))));
  }
  return sum;
}
