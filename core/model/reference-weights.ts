/** Reference weights: every kind of linear weight as plain f32, and the product of each kind in f64 or integers; the oracle for kernels. */
import { floatsOf } from '../formats/floats.ts';
import { dequantizeGptq } from '../formats/gptq.ts';
import { f16ToF32, f32ToF16 } from '../formats/half.ts';
import { dequantizeInt8, quantizeInt8Row } from '../formats/int8.ts';
import { dequantizeBnb4 } from '../formats/nf4-fp4.ts';
import type { Int8Weight, LinearWeight } from './backend.ts';

/** x [rows, in] f32 → y [rows, out] f32, bias added. */
export type ReferenceProduct = (x: Float32Array, rows: number) => Float32Array;

/** W [out, in] f32: what the packed weight stands for. */
export function dequantize(weight: LinearWeight): Float32Array {
  switch (weight.kind) {
    case 'dense':
      return floatsOf(weight.bytes, weight.dtype);
    case 'gptq':
      return dequantizeGptq(weight);
    case 'bnb4':
      return dequantizeBnb4(weight);
    case 'int8':
      return dequantizeInt8(weight);
    default:
      return weight satisfies never;
  }
}

/** The product with one weight. All but int8 are dequantised once, here, and kept as floats. */
export function prepareReferenceLinear(weight: LinearWeight): ReferenceProduct {
  if (weight.kind === 'int8') return (x, rows) => int8Product(x, rows, weight);
  const values = dequantize(weight);
  const { inFeatures, outFeatures, bias } = weight;
  return (x, rows) => {
    const y = new Float32Array(rows * outFeatures);
    for (let row = 0; row < rows; row++)
      for (let n = 0; n < outFeatures; n++) {
        let sum = 0;
        for (let k = 0; k < inFeatures; k++) sum += x[row * inFeatures + k]! * values[n * inFeatures + k]!;
        y[row * outFeatures + n] = sum + (bias?.[n] ?? 0);
      }
    return y;
  };
}

/** x [rows, in] → [rows, out]; dequantises on every call. */
export function referenceLinear(x: Float32Array, rows: number, weight: LinearWeight): Float32Array {
  return prepareReferenceLinear(weight)(x, rows);
}

/**
 * LLM.int8() (bitsandbytes, int8_vectorwise_quant and int8_mixed_scaled_mm), each row as a batch of its own. Activations are rounded
 * to f16 before anything is decided about them, as there; outliers are multiplied as they came.
 */
function int8Product(x: Float32Array, rows: number, weight: Int8Weight): Float32Array {
  const { values, rowAbsmax, outFeatures, inFeatures, threshold, bias } = weight;
  const y = new Float32Array(rows * outFeatures);
  const codes = new Int8Array(inFeatures);
  for (let row = 0; row < rows; row++) {
    const inner = Float32Array.from({ length: inFeatures }, (_, k) => f16ToF32(f32ToF16(x[row * inFeatures + k]!)));
    const outliers = threshold > 0 ? [...inner.keys()].filter((k) => Math.abs(inner[k]!) >= threshold) : [];
    for (const k of outliers) inner[k] = 0;
    const absmax = quantizeInt8Row(inner, codes);
    for (let n = 0; n < outFeatures; n++) {
      let integers = 0;
      for (let k = 0; k < inFeatures; k++) integers += codes[k]! * values[n * inFeatures + k]!;
      let exact = 0;
      for (const k of outliers) exact += x[row * inFeatures + k]! * values[n * inFeatures + k]!;
      const scale = rowAbsmax[n]! / 127;
      y[row * outFeatures + n] = (integers * (absmax / 127) + exact) * scale + (bias?.[n] ?? 0);
    }
  }
  return y;
}
