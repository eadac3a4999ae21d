// layer_norm: y = (x - mean) * (1 / sqrt(variance + eps)) * weight + bias, per row; variance = mean((x - mean)^2)
//   x, y          [rows, cols] f32
//   weight, bias  [cols] f32; bias 0: nothing is added
// Any cols; split by rows. Accumulation in f32, both means: lane j of 4 adds channels j, j + 4, ... in order, (l0 + l1) + (l2 + l3), then the last cols mod 4
// one by one. y = ((x - mean) * inverse) * weight + bias.
// Reference: test/wasm/oracle.ts, layerNorm.

import { sumLanes } from './lanes';
import { share } from './task';

function normRow(x: usize, weight: usize, bias: usize, y: usize, cols: i32, eps: f32): void {
  const bytes = <usize>cols << 2, whole = bytes & ~15;
  let lanes = f32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 16) lanes = f32x4.add(lanes, v128.load(x + k));
  let sum = sumLanes(lanes);
  for (let k = whole; k < bytes; k += 4) sum += load<f32>(x + k);
  const mean = sum / <f32>cols, mean4 = f32x4.splat(mean);

  lanes = f32x4.splat(0);
  for (let k: usize = 0; k < whole; k += 16) {
    const v = f32x4.sub(v128.load(x + k), mean4);
    lanes = f32x4.add(lanes, f32x4.mul(v, v));
  }
  sum = sumLanes(lanes);
  for (let k = whole; k < bytes; k += 4) {
    const v = load<f32>(x + k) - mean;
    sum += v * v;
  }
  const inverse = <f32>1 / sqrt<f32>(sum / <f32>cols + eps), inverse4 = f32x4.splat(inverse);

  for (let k: usize = 0; k < whole; k += 16) {
    const v = f32x4.mul(f32x4.mul(f32x4.sub(v128.load(x + k), mean4), inverse4), v128.load(weight + k));
    v128.store(y + k, bias != 0 ? f32x4.add(v, v128.load(bias + k)) : v);
  }
  for (let k = whole; k < bytes; k += 4) {
    const v = (load<f32>(x + k) - mean) * inverse * load<f32>(weight + k);
    store<f32>(y + k, bias != 0 ? v + load<f32>(bias + k) : v);
  }
}

export function layer_norm(task: usize, part: i32, parts: i32): void {
  const x = load<usize>(task), weight = load<usize>(task, 4), bias = load<usize>(task, 8), y = load<usize>(task, 12);
  const rows = load<i32>(task, 16), cols = load<i32>(task, 20), eps = load<f32>(task, 24);
  const end = <usize>share(rows, part + 1, parts) * cols << 2;
  for (let at = <usize>share(rows, part, parts) * cols << 2; at < end; at += <usize>cols << 2) normRow(x + at, weight, bias, y + at, cols, eps);
}
