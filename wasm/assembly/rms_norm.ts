// rms_norm: y = x * (1 / sqrt(mean(x^2) + eps)) * weight, per row.   add_rms_norm: residual += x in place, then rms_norm of residual
//   x, residual, y  [rows, cols] f32
//   weight          [cols] f32
// Any cols; split by rows. Accumulation in f32: lane j of 4 adds the squares of channels j, j + 4, ... in order, (l0 + l1) + (l2 + l3), then the last
// cols mod 4 squares one by one. y = (x * inverse) * weight.
// Reference: test/wasm/oracle.ts, rmsNorm.

import { addInPlace } from './add';
import { sumLanes } from './lanes';
import { share } from './task';

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

export function rms_norm(task: usize, part: i32, parts: i32): void {
  const x = load<usize>(task), weight = load<usize>(task, 4), y = load<usize>(task, 8), rows = load<i32>(task, 12), cols = load<i32>(task, 16), eps = load<f32>(task, 20);
  const end = <usize>share(rows, part + 1, parts) * cols << 2;
  for (let at = <usize>share(rows, part, parts) * cols << 2; at < end; at += <usize>cols << 2) normRow(x + at, weight, y + at, cols, eps);
}

export function add_rms_norm(task: usize, part: i32, parts: i32): void {
  const residual = load<usize>(task), x = load<usize>(task, 4), weight = load<usize>(task, 8), y = load<usize>(task, 12);
  const rows = load<i32>(task, 16), cols = load<i32>(task, 20), eps = load<f32>(task, 24);
  const end = <usize>share(rows, part + 1, parts) * cols << 2, bytes = <usize>cols << 2;
  for (let at = <usize>share(rows, part, parts) * cols << 2; at < end; at += bytes) {
    addInPlace(residual + at, x + at, bytes);
    normRow(residual + at, weight, y + at, cols, eps);
  }
}
