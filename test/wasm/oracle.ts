/** Oracle: every op as plain loops in f64, against dequantised weights. */
import type { ActivationFunction, Bnb4Weight, GptqWeight, Int8Weight } from '../../core/model/backend.ts';

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

/** Value `index` of words first, first + stride, …: `bits` bits each, bit by bit. */
function field(words: Int32Array, first: number, stride: number, index: number, bits: number): number {
  let value = 0;
  for (let i = 0; i < bits; i++) {
    const bit = index * bits + i;
    value |= ((words[first + (bit >> 5) * stride]! >>> (bit & 31)) & 1) << i;
  }
  return value;
}

/** [out, in] */
export function dequantize(weight: GptqWeight): Float64Array {
  const { outFeatures, inFeatures, bits, groupSize, qweight, qzeros, scales, zeroOffset, gIdx } = weight;
  const w = new Float64Array(outFeatures * inFeatures);
  const zeroWords = Math.ceil((outFeatures * bits) / 32);
  for (let k = 0; k < inFeatures; k++) {
    const group = gIdx?.[k] ?? Math.floor(k / groupSize);
    for (let n = 0; n < outFeatures; n++) {
      const q = field(qweight, n, outFeatures, k, bits);
      const zero = (field(qzeros, group * zeroWords, 1, n, bits) + zeroOffset) & (2 ** bits - 1);
      w[n * inFeatures + k] = halfToNumber(scales[group * outFeatures + n]!) * (q - zero);
    }
  }
  return w;
}

/** [out, in] */
export function dequantizeBnb4({
  outFeatures,
  inFeatures,
  blockSize,
  packed,
  table,
  absmax,
}: Bnb4Weight): Float64Array {
  return Float64Array.from({ length: outFeatures * inFeatures }, (_, i) => {
    const code = i % 2 === 0 ? packed[i >> 1]! >> 4 : packed[i >> 1]! & 15;
    const block = Math.floor(i / blockSize);
    const largest =
      absmax.kind === 'plain'
        ? absmax.values[block]!
        : absmax.table[absmax.codes[block]!]! * absmax.nested[Math.floor(block / absmax.blockSize)]! + absmax.offset;
    return table[code]! * largest;
  });
}

/** [out, in] */
export function dequantizeInt8({ values, rowAbsmax, inFeatures }: Int8Weight): Float64Array {
  return Float64Array.from(values, (value, i) => (value * rowAbsmax[Math.floor(i / inFeatures)]!) / 127);
}

/** One token of LLM.int8(): the integers are those of the method, everything else in f64. */
export function linearInt8(x: Float32Array, weight: Int8Weight): Float64Array {
  const { values, rowAbsmax, outFeatures, inFeatures, threshold, bias } = weight;
  const halves = Array.from(x, roundToHalf);
  const isOutlier = halves.map((value) => threshold > 0 && Math.abs(value) >= threshold);
  const absmax = Math.max(...halves.map((value, k) => (isOutlier[k] ? 0 : Math.abs(value))));
  const inverse = absmax === 0 ? 0 : Math.fround(127 / absmax);
  const q = halves.map((value, k) => (isOutlier[k] ? 0 : roundHalfToEven(Math.fround(value * inverse))));
  return Float64Array.from({ length: outFeatures }, (_, n) => {
    let integers = 0;
    let outliers = 0;
    for (let k = 0; k < inFeatures; k++) {
      integers += q[k]! * values[n * inFeatures + k]!;
      if (isOutlier[k]) outliers += x[k]! * values[n * inFeatures + k]!;
    }
    return ((integers * absmax) / 127 + outliers) * (rowAbsmax[n]! / 127) + (bias?.[n] ?? 0);
  });
}

/** To the nearest f16, ties to even; what f16 cannot hold stays. */
export function roundToHalf(value: number): number {
  if (!(Math.abs(value) < 65520)) return value;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), -14);
  const step = 2 ** (exponent - 10);
  return roundHalfToEven(value / step) * step;
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

/** A row as the chunk kernels see it: integers up to ±levels in chunks of 32 channels of one group, times its f32 scale. */
export function quantizeRow(
  x: Float32Array,
  levels: 127 | 1023,
  groupOf: (channel: number) => number = () => 0,
): Float64Array {
  const y = new Float64Array(x.length);
  const groups = new Map<number, number[]>();
  for (let k = 0; k < x.length; k++) groups.set(groupOf(k), [...(groups.get(groupOf(k)) ?? []), k]);
  for (const channels of groups.values())
    for (let start = 0; start < channels.length; start += 32) {
      const chunk = channels.slice(start, start + 32);
      const absmax = chunk.reduce((most, k) => Math.max(most, Math.abs(x[k]!)), 0);
      if (absmax <= 1e-30) continue;
      const inverse = Math.fround(levels / absmax);
      const scale = Math.fround(absmax / levels);
      for (const k of chunk) y[k] = roundHalfToEven(Math.fround(x[k]! * inverse)) * scale;
    }
  return y;
}

export function roundHalfToEven(value: number): number {
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

export function layerNorm(x: Float32Array, weight: Float32Array, bias: Float32Array | null, eps: number): Float64Array {
  const cols = weight.length;
  return Float64Array.from(x, (value, i) => {
    const row = x.subarray(i - (i % cols), i - (i % cols) + cols);
    const mean = row.reduce((sum, each) => sum + each, 0) / cols;
    const variance = Float64Array.from(row).reduce((sum, each) => sum + (each - mean) ** 2, 0) / cols;
    return ((value - mean) / Math.sqrt(variance + eps)) * weight[i % cols]! + (bias?.[i % cols] ?? 0);
  });
}

export function activation(f: ActivationFunction, x: number): number {
  switch (f) {
    case 'relu':
      return Math.max(x, 0);
    case 'gelu':
      return x * normal(x);
    case 'gelu_tanh':
      // x/2 · (1 + tanh u) = x / (1 + exp(−2u))
      return x / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    case 'silu':
      return x / (1 + Math.exp(-x));
    default:
      return f satisfies never;
  }
}

/** The standard normal distribution's cumulative function, to about 1e-14: series below 3, continued fraction beyond. */
export function normal(x: number): number {
  const size = Math.abs(x);
  const density = Math.exp(-0.5 * size * size) / Math.sqrt(2 * Math.PI);
  let right: number;
  if (size < 3) {
    let term = size;
    let sum = size;
    for (let i = 1; i < 100; i++) {
      term *= (size * size) / (2 * i + 1);
      sum += term;
    }
    right = 0.5 - density * sum;
  } else {
    let fraction = size;
    for (let i = 200; i > 0; i--) fraction = size + i / fraction;
    right = density / fraction;
  }
  return x < 0 ? right : 1 - right;
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

/** One query head over keys and values [context][headDim] in order of position, the last of them its own. */
export function attendHead(
  query: ArrayLike<number>,
  keys: ArrayLike<number>[],
  values: ArrayLike<number>[],
  options: { scale: number; window?: number | null; softcap?: number | null; slope?: number },
): Float64Array {
  const { scale, window = null, softcap = null, slope = 0 } = options;
  const first = window === null ? 0 : Math.max(0, keys.length - window);
  const scores = keys.slice(first).map((key, i) => {
    let sum = 0;
    for (let c = 0; c < query.length; c++) sum += query[c]! * key[c]!;
    const capped = softcap === null ? sum * scale : softcap * Math.tanh((sum * scale) / softcap);
    return capped + slope * (first + i - (keys.length - 1));
  });
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const y = new Float64Array(query.length);
  values.slice(first).forEach((value, position) => {
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
