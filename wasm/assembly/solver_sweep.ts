// sweep: GPTQ over the columns of 16 rows (arXiv:2210.17323, in AutoGPTQ's order of updates)
//   w        [cols, 16] f32: the weights, corrected in place, block by block
//   errors   [cols, 16] f32: (w - its level's value) / U[i,i]
//   applied  [cols] i32 scratch: w's column holds the corrections of so many columns
//   l        [*, stride] f32: l[i,j] = U[j,i] for j <= i
//   levels   [cols, 16] u8
//   scales, zeros  [groups, 16] f32
//   groupOf  [cols] i32: group of each column when groupSize is 0; then scales and zeros are given
// A column's value in the sweep is w - sum over j before it of errors[j] * U[j,i], in order of j: those before its block of 128 first,
// then those inside it. A running group's scale comes from w with the corrections before the block alone, as AutoGPTQ's does.
// Reference: gpu-worker/quantize/reference-kernels.ts.

import { grid_rows, levelOf, valueOf } from './solver_grid';

const BLOCK: i32 = 128;

export function sweep(
  w: usize, errors: usize, applied: usize, l: usize, levels: usize, scales: usize, zeros: usize, groupOf: usize,
  cols: i32, stride: i32, groupSize: i32, maxLevel: f32, symmetric: bool, mse: bool,
): void {
  memory.fill(applied, 0, <usize>cols << 2);
  let group = 0;
  for (let begin = 0; begin < cols; begin += BLOCK) {
    const end = min(begin + BLOCK, cols);
    catchUp(w, errors, applied, l, begin, end, begin, stride);
    for (let column = begin; column < end; column++) {
      if (groupSize == 0) group = load<i32>(groupOf + (<usize>column << 2));
      else if (column % groupSize == 0) {
        group = column / groupSize;
        const last = min(column + groupSize, cols);
        catchUp(w, errors, applied, l, end, last, begin, stride);
        const at = <usize>group << 6;
        grid_rows(w + (<usize>column << 6), last - column, scales + at, zeros + at, maxLevel, symmetric, mse);
      }
      const row = l + ((<usize>column * <usize>stride) << 2), at = <usize>column << 6, pivot = f32x4.splat(load<f32>(row + (<usize>column << 2)));
      let a = v128.load(w + at), b = v128.load(w + at, 16), c = v128.load(w + at, 32), d = v128.load(w + at, 48);
      let e = errors + (<usize>begin << 6);
      for (let u = row + (<usize>begin << 2), last = row + (<usize>column << 2); u < last; u += 4, e += 64) {
        const x = v128.load32_splat(u);
        a = msub(a, x, v128.load(e));
        b = msub(b, x, v128.load(e, 16));
        c = msub(c, x, v128.load(e, 32));
        d = msub(d, x, v128.load(e, 48));
      }
      const s = scales + (<usize>group << 6), z = zeros + (<usize>group << 6), to = errors + at;
      const qa = settle(a, v128.load(s), v128.load(z), maxLevel, pivot, to);
      const qb = settle(b, v128.load(s, 16), v128.load(z, 16), maxLevel, pivot, to + 16);
      const qc = settle(c, v128.load(s, 32), v128.load(z, 32), maxLevel, pivot, to + 32);
      const qd = settle(d, v128.load(s, 48), v128.load(z, 48), maxLevel, pivot, to + 48);
      v128.store(
        levels + (<usize>column << 4),
        i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(qa, qb), i16x8.narrow_i32x4_s(qc, qd)),
      );
    }
  }
}

@inline function msub(sum: v128, a: v128, b: v128): v128 {
  return f32x4.sub(sum, f32x4.mul(a, b));
}

/** Stores a column's error and gives its levels as i32. */
@inline function settle(w: v128, s: v128, z: v128, maxLevel: f32, pivot: v128, error: usize): v128 {
  const level = levelOf(w, s, z, maxLevel);
  v128.store(error, f32x4.div(f32x4.sub(w, valueOf(level, s, z)), pivot));
  return i32x4.trunc_sat_f32x4_s(level);
}

/** Brings w's columns [from, to) to hold the corrections of the first `upTo` columns. */
function catchUp(w: usize, errors: usize, applied: usize, l: usize, from: i32, to: i32, upTo: i32, stride: i32): void {
  for (let column = from, step = 1; column < to; column += step) {
    const first = load<i32>(applied + (<usize>column << 2));
    // Two at a time where both are at the same point.
    const isPair = column + 1 < to && load<i32>(applied + (<usize>(column + 1) << 2)) == first;
    step = isPair ? 2 : 1;
    if (first == upTo) continue;
    const p = w + (<usize>column << 6), row = l + ((<usize>column * <usize>stride) << 2), next = isPair ? <usize>stride << 2 : 0;
    const q = isPair ? p + 64 : p;
    let a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    let f = v128.load(q), g = v128.load(q, 16), h = v128.load(q, 32), i = v128.load(q, 48);
    let e = errors + (<usize>first << 6);
    for (let u = row + (<usize>first << 2), last = row + (<usize>upTo << 2); u < last; u += 4, e += 64) {
      const x = v128.load32_splat(u), y = v128.load32_splat(u + next);
      let error = v128.load(e);
      a = msub(a, x, error); f = msub(f, y, error);
      error = v128.load(e, 16);
      b = msub(b, x, error); g = msub(g, y, error);
      error = v128.load(e, 32);
      c = msub(c, x, error); h = msub(h, y, error);
      error = v128.load(e, 48);
      d = msub(d, x, error); i = msub(i, y, error);
    }
    v128.store(p, a); v128.store(p, b, 16); v128.store(p, c, 32); v128.store(p, d, 48);
    store<i32>(applied + (<usize>column << 2), upTo);
    if (!isPair) continue;
    v128.store(q, f); v128.store(q, g, 16); v128.store(q, h, 32); v128.store(q, i, 48);
    store<i32>(applied + (<usize>(column + 1) << 2), upTo);
  }
}
