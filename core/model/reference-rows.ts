/** Reference rows: the ops that treat each row or each value by itself, as plain loops with sums in f64. */
import type { ActivationFunction } from './backend.ts';

interface Shape {
  rows: number;
  cols: number;
}

/** x [rows, cols], weight [cols] → [rows, cols] */
export function rmsNormRows(x: Float32Array, { rows, cols }: Shape, weight: Float32Array, eps: number): Float32Array {
  const y = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    let squares = 0;
    for (let i = 0; i < cols; i++) squares += x[row * cols + i]! ** 2;
    const inverse = 1 / Math.sqrt(squares / cols + eps);
    for (let i = 0; i < cols; i++) y[row * cols + i] = x[row * cols + i]! * inverse * weight[i]!;
  }
  return y;
}

/** x [rows, cols], weight and bias [cols] → [rows, cols]; the variance is over cols, not cols − 1. */
export function layerNormRows(
  x: Float32Array,
  { rows, cols }: Shape,
  weight: Float32Array,
  bias: Float32Array | null,
  eps: number,
): Float32Array {
  const y = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < cols; i++) sum += x[row * cols + i]!;
    const mean = sum / cols;
    let squares = 0;
    for (let i = 0; i < cols; i++) squares += (x[row * cols + i]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / cols + eps);
    for (let i = 0; i < cols; i++)
      y[row * cols + i] = (x[row * cols + i]! - mean) * inverse * weight[i]! + (bias?.[i] ?? 0);
  }
  return y;
}

/** sum += x in place. */
export function addRows(sum: Float32Array, x: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + x[i]!;
}

/** x [rows, cols] → [rows, sum of counts] */
export function copyColumns(
  x: Float32Array,
  { rows, cols }: Shape,
  ranges: readonly { begin: number; count: number }[],
): Float32Array {
  const width = ranges.reduce((sum, { count }) => sum + count, 0);
  const y = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    let at = row * width;
    for (const { begin, count } of ranges) {
      if (begin < 0 || begin + count > cols) throw new Error(`columns ${begin}..${begin + count} of ${cols}`);
      y.set(x.subarray(row * cols + begin, row * cols + begin + count), at);
      at += count;
    }
  }
  return y;
}

/** f(x) in f64. */
export function applied(f: ActivationFunction, x: number): number {
  switch (f) {
    case 'relu':
      return Math.max(0, x);
    case 'gelu':
      return 0.5 * x * (1 + erf(x * Math.SQRT1_2));
    case 'gelu_tanh':
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    case 'silu':
      return x / (1 + Math.exp(-x));
    default:
      return f satisfies never;
  }
}

/** Abramowitz and Stegun 7.1.6: e^(−x²)·2/√π · Σ 2ⁿ x^(2n+1) / (2n+1)!!, all terms of one sign; beyond 6 it is 1 in f64. */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
