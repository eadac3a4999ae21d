/** Quantize linear: a plain weight as bitsandbytes would hold it. */
import { NibbleError } from '../errors.ts';
import type { Bnb4Weight, Int8Weight } from '../model/backend.ts';
import { readFloats } from './floats.ts';
import { quantizeInt8 } from './int8.ts';
import { BNB4_TABLES, nestAbsmax, quantizeBnb4 } from './nf4-fp4.ts';
import type { TableRows } from './requantize.ts';

export type BitsandbytesMethod = 'int8' | 'nf4' | 'fp4';

/** bitsandbytes' and text-generation-inference's defaults. */
const BLOCK_SIZE = 64;
export const INT8_THRESHOLD = 6;
/** The largest f16 plus half a step: from here on a value rounds to infinity. */
const F16_OVERFLOW = 65_520;
/** Rows are read so many bytes at a time, or a block of rows where they are long: little beside the weight. */
const READ_BYTES = 4 << 20;

/**
 * int8: LLM.int8() with threshold 6; nf4, fp4: blocks of 64 with double quantization. Beside the result it holds some rows at a time.
 * Throws `file_invalid` on a value that cannot be quantized.
 */
export async function quantizeLinear(
  rows: TableRows,
  bias: Float32Array | null,
  method: BitsandbytesMethod,
): Promise<Bnb4Weight | Int8Weight> {
  const { outFeatures, inFeatures } = rows;
  const numValues = outFeatures * inFeatures;
  if (method === 'int8') {
    const values = new Int8Array(numValues);
    const rowAbsmax = new Float32Array(outFeatures);
    await eachSlice(rows, 1, F16_OVERFLOW, (slice, first) => {
      const quantized = quantizeInt8(slice, slice.length / inFeatures, inFeatures);
      values.set(quantized.values, first * inFeatures);
      rowAbsmax.set(quantized.rowAbsmax, first);
    });
    return { kind: 'int8', outFeatures, inFeatures, values, rowAbsmax, threshold: INT8_THRESHOLD, bias };
  }
  const packed = new Uint8Array(Math.ceil(numValues / 2));
  const absmax = new Float32Array(Math.ceil(numValues / BLOCK_SIZE));
  // So many rows are whole blocks, whatever their length.
  await eachSlice(rows, BLOCK_SIZE, Number.POSITIVE_INFINITY, (slice, first) => {
    const quantized = quantizeBnb4(slice, method, BLOCK_SIZE);
    packed.set(quantized.packed, (first * inFeatures) / 2);
    absmax.set(quantized.absmax, (first * inFeatures) / BLOCK_SIZE);
  });
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

/** Gives the rows' values in order, a multiple of `step` rows at a time but the last; every value's magnitude must be below `limit`. */
async function eachSlice(
  { name, file, outFeatures, inFeatures, dtype, read }: TableRows,
  step: number,
  limit: number,
  quantize: (values: Float32Array, firstRow: number) => void,
): Promise<void> {
  const rowBytes = inFeatures * (dtype === 'f32' ? 4 : 2);
  const rowsAtOnce = Math.min(outFeatures, Math.max(1, Math.floor(READ_BYTES / rowBytes / step)) * step);
  const values = new Float32Array(rowsAtOnce * inFeatures);
  for (let first = 0; first < outFeatures; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, outFeatures - first);
    const slice = values.subarray(0, count * inFeatures);
    readFloats(await read(first, count), dtype, slice);
    for (let i = 0; i < slice.length; i++)
      if (!(Math.abs(slice[i]!) < limit))
        throw new NibbleError({
          code: 'file_invalid',
          file,
          tensor: name,
          rule: `holds ${slice[i]} at ${first * inFeatures + i}, which cannot be quantized`,
        });
    quantize(slice, first);
  }
}
