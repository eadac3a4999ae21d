/** AutoGptq: the algorithm as AutoGPTQ states it, sums in f64 and without our short cuts: the inverse is formed, its factor taken, and what it packs is what counts. */
import { f16ToF32Array, f32ToF16Array } from '../../../core/formats/half.ts';
import type { SolverOptions } from '../../../gpu-worker/quantize/solver-options.ts';

const BLOCK = 128;

/** Lower L with L·Lᵀ = a [n, n]. */
function cholesky(a: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j]!;
    }
  return l;
}

/** (L·Lᵀ)⁻¹, a column at a time. */
function choleskyInverse(l: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  for (let column = 0; column < n; column++) {
    const x = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      let sum = i === column ? 1 : 0;
      for (let k = 0; k < i; k++) sum -= l[i * n + k]! * x[k]!;
      x[i] = sum / l[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = x[i]!;
      for (let k = i + 1; k < n; k++) sum -= l[k * n + i]! * x[k]!;
      x[i] = sum / l[i * n + i]!;
    }
    for (let i = 0; i < n; i++) inverse[i * n + column] = x[i]!;
  }
  return inverse;
}

function halfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** weight [rows, columns] as a reader dequantises AutoGPTQ's file: its levels, and its scales in f16. Natural order of columns, running groups. */
export function autoGptq(
  weight: Float32Array,
  hessian: Float32Array,
  columns: number,
  { bits, groupSize, zeros, damping }: Pick<SolverOptions, 'bits' | 'zeros' | 'damping'> & { groupSize: number },
): Float32Array {
  const rows = weight.length / columns;
  const maxLevel = 2 ** bits - 1;
  const h = Float64Array.from(hessian);
  let mean = 0;
  for (let i = 0; i < columns; i++) mean += h[i * columns + i]! / columns;
  for (let i = 0; i < columns; i++) h[i * columns + i]! += damping * mean;
  // Upper U with UᵀU = H⁻¹ is the transpose of its lower factor.
  const lower = cholesky(choleskyInverse(cholesky(h, columns), columns), columns);
  const result = new Float32Array(weight.length);
  for (let row = 0; row < rows; row++) {
    const w = Float64Array.from(weight.subarray(row * columns, (row + 1) * columns));
    for (let begin = 0; begin < columns; begin += BLOCK) {
      const end = Math.min(begin + BLOCK, columns);
      const own = w.slice(begin, end);
      const errors: number[] = [];
      let [scale, zero] = [1, 0];
      for (let i = begin; i < end; i++) {
        if (i % groupSize === 0) {
          const group = w.subarray(i, Math.min(i + groupSize, columns));
          let [low, high] = [Math.min(0, ...group), Math.max(0, ...group)];
          if (zeros === 'symmetric') {
            high = Math.max(Math.abs(low), high);
            low = -high;
          }
          scale = Math.fround((high - low) / maxLevel);
          zero = zeros === 'symmetric' ? (maxLevel + 1) / 2 : halfEven(-low / scale);
        }
        // In f32, as torch divides: the largest value of a symmetric group is a tie there and only there.
        const steps = Math.fround(Math.fround(own[i - begin]!) / scale);
        const level = Math.min(Math.max(halfEven(steps) + zero, 0), maxLevel);
        const value = scale * (level - zero);
        const error = (own[i - begin]! - value) / lower[i * columns + i]!;
        for (let k = i; k < end; k++) own[k - begin]! -= error * lower[k * columns + i]!;
        errors.push(error);
        const [half] = f16ToF32Array(f32ToF16Array(Float32Array.of(scale)));
        // Its pack(): round((W + zero·scale) / scale in f16).
        const packed = halfEven((value + zero * scale) / half!);
        result[row * columns + i] = half! * (packed - zero);
      }
      for (let i = begin; i < end; i++)
        for (let k = end; k < columns; k++) w[k]! -= errors[i - begin]! * lower[k * columns + i]!;
    }
  }
  return result;
}
