/** Int8: the rows of LLM.int8(), and its rounding of activations; bit for bit what bitsandbytes' CPU path gives. */
import type { Int8Weight } from '../model/backend.ts';
import { f16ToF32, f32ToF16 } from './half.ts';

/**
 * values [out, in] f32 → CB [out, in] int8 and SCB [out] f32. Values are cast to f16 first. Each is multiplied by
 * 127 · (1 / absmax) of its row in f32 and rounded, ties to even. A row of zeros has absmax 0. Every value must be finite in f16.
 */
export function quantizeInt8(
  values: Float32Array,
  outFeatures: number,
  inFeatures: number,
): Pick<Int8Weight, 'values' | 'rowAbsmax'> {
  const codes = new Int8Array(values.length);
  const rowAbsmax = new Float32Array(outFeatures);
  const halves = new Float32Array(inFeatures);
  for (let n = 0; n < outFeatures; n++) {
    for (let k = 0; k < inFeatures; k++) halves[k] = f16ToF32(f32ToF16(values[n * inFeatures + k]!));
    rowAbsmax[n] = quantizeInt8Row(halves, codes.subarray(n * inFeatures, (n + 1) * inFeatures));
  }
  return { values: codes, rowAbsmax };
}

/** row [k] → codes [k]; the absolute maximum comes back. */
export function quantizeInt8Row(row: Float32Array, codes: Int8Array): number {
  let absmax = 0;
  for (let k = 0; k < row.length; k++) absmax = Math.max(absmax, Math.abs(row[k]!));
  if (absmax === 0) {
    codes.fill(0);
    return 0;
  }
  // PyTorch divides a number by a tensor this way, with two roundings; some ties hang on it.
  const factor = Math.fround(Math.fround(1 / absmax) * 127);
  for (let k = 0; k < row.length; k++) codes[k] = roundHalfEven(Math.fround(row[k]! * factor));
  return absmax;
}

/** bitsandbytes multiplies by this f32 in place of dividing by 127. */
const ONE_127TH = Math.fround(7.874015718698502e-3);

/** W [out, in] f32, W[n,k] = values[n,k] · rowAbsmax[n] / 127, rounded to f32 as bitsandbytes rounds it. */
export function dequantizeInt8({ values, rowAbsmax, outFeatures, inFeatures }: Int8Weight): Float32Array {
  const plain = new Float32Array(outFeatures * inFeatures);
  for (let n = 0; n < outFeatures; n++)
    for (let k = 0; k < inFeatures; k++)
      plain[n * inFeatures + k] = Math.fround(values[n * inFeatures + k]! * rowAbsmax[n]!) * ONE_127TH;
  return plain;
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return floor + (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? 1 : 0);
}
