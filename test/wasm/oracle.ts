/** Oracle: every op as plain loops in f64, against dequantised weights. */
import type { GptqWeight } from '../../core/model/backend.ts';

/** Numbers in [0, 1), the same on every run (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Roughly normal, mean 0, deviation 1. */
export function gaussian(seed: number): () => number {
  const next = random(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15));
}

/** [out, in] */
export function dequantize(weight: GptqWeight): Float64Array {
  const { outFeatures, inFeatures, groupSize, qweight, qzeros, scales, zeroOffset } = weight;
  const w = new Float64Array(outFeatures * inFeatures);
  const zeroWords = Math.ceil(outFeatures / 8);
  for (let n = 0; n < outFeatures; n++)
    for (let k = 0; k < inFeatures; k++) {
      const group = Math.floor(k / groupSize);
      const q = (qweight[(k >> 3) * outFeatures + n]! >>> (4 * (k & 7))) & 15;
      const zero = (((qzeros[group * zeroWords + (n >> 3)]! >>> (4 * (n & 7))) & 15) + zeroOffset) & 15;
      w[n * inFeatures + k] = halfToNumber(scales[group * outFeatures + n]!) * (q - zero);
    }
  return w;
}

/** y [rows, out] = x [rows, in] · wᵀ + bias */
export function linear(
  x: ArrayLike<number>,
  w: Float64Array,
  bias: Float32Array | null,
  inFeatures: number,
): Float64Array {
  const outFeatures = w.length / inFeatures;
  const rows = x.length / inFeatures;
  const y = new Float64Array(rows * outFeatures);
  for (let row = 0; row < rows; row++)
    for (let n = 0; n < outFeatures; n++) {
      let sum = bias?.[n] ?? 0;
      for (let k = 0; k < inFeatures; k++) sum += x[row * inFeatures + k]! * w[n * inFeatures + k]!;
      y[row * outFeatures + n] = sum;
    }
  return y;
}

/** A row as the int4 kernels see it: int8 in groups of 32, times its f32 scale. */
export function quantizeRow(x: Float32Array): Float64Array {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += 32) {
    const group = x.subarray(start, start + 32);
    const absmax = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (absmax <= 1e-30) continue;
    const inverse = Math.fround(127 / absmax);
    const scale = Math.fround(absmax / 127);
    group.forEach((value, i) => {
      y[start + i] = roundHalfToEven(Math.fround(value * inverse)) * scale;
    });
  }
  return y;
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

export function rmsNorm(x: Float32Array, weight: Float32Array, eps: number): Float64Array {
  const cols = weight.length;
  return Float64Array.from(x, (value, i) => {
    const start = i - (i % cols);
    let squares = 0;
    for (let k = 0; k < cols; k++) squares += x[start + k]! ** 2;
    return (value / Math.sqrt(squares / cols + eps)) * weight[i % cols]!;
  });
}

export function gatedSilu(gate: Float32Array, up: Float32Array): Float64Array {
  return Float64Array.from(gate, (g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
}

/** Rotates one head [headDim]; cos, sin [rotaryDim/2]. */
export function rope(head: ArrayLike<number>, cos: ArrayLike<number>, sin: ArrayLike<number>): Float64Array {
  const y = Float64Array.from(head);
  const half = cos.length;
  for (let i = 0; i < half; i++) {
    y[i] = head[i]! * cos[i]! - head[i + half]! * sin[i]!;
    y[i + half] = head[i + half]! * cos[i]! + head[i]! * sin[i]!;
  }
  return y;
}

/** One query head over keys and values [context][headDim] in order of position. */
export function attendHead(
  query: ArrayLike<number>,
  keys: ArrayLike<number>[],
  values: ArrayLike<number>[],
  scale: number,
): Float64Array {
  const scores = keys.map((key) => {
    let sum = 0;
    for (let i = 0; i < query.length; i++) sum += query[i]! * key[i]!;
    return sum * scale;
  });
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const y = new Float64Array(query.length);
  values.forEach((value, position) => {
    for (let i = 0; i < y.length; i++) y[i] = y[i]! + (weights[position]! / total) * value[i]!;
  });
  return y;
}

/** ‖got − want‖₂ / ‖want‖₂ over the whole output */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    size += want[i]! ** 2;
  }
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  return size === 0 ? Math.sqrt(difference) : Math.sqrt(difference / size);
}
