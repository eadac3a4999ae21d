/** Quantize linear: a plain weight as bitsandbytes would hold it. */
import { NibbleError } from '../errors.ts';
import type { Bnb4Weight, DenseWeight, Int8Weight } from '../model/backend.ts';
import { floatsOf } from './floats.ts';
import { quantizeInt8 } from './int8.ts';
import { BNB4_TABLES, nestAbsmax, quantizeBnb4 } from './nf4-fp4.ts';

export type BitsandbytesMethod = 'int8' | 'nf4' | 'fp4';

/** bitsandbytes' and text-generation-inference's defaults. */
const BLOCK_SIZE = 64;
export const INT8_THRESHOLD = 6;
/** The largest f16 plus half a step: from here on a value rounds to infinity. */
const F16_OVERFLOW = 65_520;

/** int8: LLM.int8() with threshold 6; nf4, fp4: blocks of 64 with double quantization. `file` and `label` name the tensor in errors. */
export function quantizeLinear(
  weight: DenseWeight,
  method: BitsandbytesMethod,
  file: string,
  label: string,
): Bnb4Weight | Int8Weight {
  const { outFeatures, inFeatures, bias } = weight;
  const values = floatsOf(weight.bytes, weight.dtype);
  const limit = method === 'int8' ? F16_OVERFLOW : Number.POSITIVE_INFINITY;
  const broken = values.findIndex((value) => !(Math.abs(value) < limit));
  if (broken >= 0)
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: label,
      rule: `holds ${values[broken]} at ${broken}, which cannot be quantized`,
    });
  if (method === 'int8') {
    const rows = quantizeInt8(values, outFeatures, inFeatures);
    return { kind: 'int8', outFeatures, inFeatures, ...rows, threshold: INT8_THRESHOLD, bias };
  }
  const { packed, absmax } = quantizeBnb4(values, method, BLOCK_SIZE);
  return {
    kind: 'bnb4',
    outFeatures,
    inFeatures,
    quantType: method,
    blockSize: BLOCK_SIZE,
    packed,
    table: BNB4_TABLES[method],
    absmax: nestAbsmax(absmax),
    bias,
  };
}
