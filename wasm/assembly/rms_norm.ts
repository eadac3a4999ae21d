// rms_norm: y = x * (1 / sqrt(mean(x^2) + eps)) * weight, per row.   add_rms_norm: residual += x in place, then rms_norm of residual
//   x, residual, y  [rows, cols] f32
//   weight          [cols] f32
// Any cols. Accumulation in f32: lane j of 4 adds the squares of channels j, j + 4, ... in order, (l0 + l1) + (l2 + l3), then the last
// cols mod 4 squares one by one. y = (x * inverse) * weight.
// Reference: test/wasm/oracle.ts, rmsNorm.

import { addInPlace } from './add';
import { sumLanes } from './lanes';

function normRow(x: usize, weight: usize, y: usize, cols: i32, eps: f32): void {
  const bytes = <usize>cols << 2, whole = bytes & ~15;
  let squares = f32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 16) {
    const v = v128.load(x + k);
    squares = f32x4.add(squares, f32x4.mul(v, v));
  }
  let sum = sumLanes(squares);
  for (let k = whole; k < bytes; k += 4) sum += load<f32>(x + k) * load<f32>(x + k);
  const inverse = <f32>1 / sqrt<f32>(sum / <f32>cols + eps);
  const inverse4 = f32x4.splat(inverse);
  for (let k: usize = 0; k < whole; k += 16) v128.store(y + k, f32x4.mul(f32x4.mul(v128.load(x + k), inverse4), v128.load(weight + k)));
  for (let k = whole; k < bytes; k += 4) store<f32>(y + k, load<f32>(x + k) * inverse * load<f32>(weight + k));
}

export function rms_norm(x: usize, weight: usize, y: usize, rows: i32, cols: i32, eps: f32): void {
  for (let row = 0; row < rows; row++, x += <usize>cols << 2, y += <usize>cols << 2) normRow(x, weight, y, cols, eps);
}

export function add_rms_norm(residual: usize, x: usize, weight: usize, y: usize, rows: i32, cols: i32, eps: f32): void {
  const bytes = <usize>cols << 2;
  for (let row = 0; row < rows; row++, residual += bytes, x += bytes, y += bytes) {
    addInPlace(residual, x, bytes);
    normRow(residual, weight, y, cols, eps);
  }
}
