/** Requantize: a plain table (embedding, head) in GPTQ's layout: symmetric, groups of 32 inputs, f16 scales, rounded to nearest. */
import { NibbleError } from '../errors.ts';
import type { DenseWeight, GptqWeight } from '../model/backend.ts';
import { bf16ToF32, f16ToF32, f32ToF16 } from './half.ts';

/** Bits of embedding and head; 16: they stay as the checkpoint has them. */
export type HeadBits = 16 | 8 | 4;

/** A chunk of the kernels, so that a group is one integer sum; ggml's block too. */
const GROUP_SIZE = 32;
/** Rows are read so many bytes at a time: little beside the table, much beside a request to a store. */
const READ_BYTES = 1 << 20;

/** A matrix [outFeatures, inFeatures] whose rows can be read apart. `name` and `file` name it in errors. */
export interface TableRows {
  name: string;
  file: string;
  outFeatures: number;
  inFeatures: number;
  dtype: DenseWeight['dtype'];
  /** Rows [first, first + count), row-major, little-endian. */
  read(first: number, count: number): Promise<Uint8Array>;
}

/**
 * |W − result| is at most half a scale, and a scale is the smallest f16 that holds its group: max(largest / (2^(bits−1) − 1),
 * −smallest / 2^(bits−1)). Of the table itself it holds READ_BYTES at a time, and one row as floats. Throws `file_invalid` on values that are not
 * finite or whose scale is beyond f16.
 */
export async function requantizeTable(table: TableRows, bits: 8 | 4): Promise<GptqWeight> {
  const { outFeatures, inFeatures, dtype } = table;
  const groupSize = Math.min(GROUP_SIZE, inFeatures);
  const groups = Math.ceil(inFeatures / groupSize);
  const weight: GptqWeight = {
    kind: 'gptq',
    outFeatures,
    inFeatures,
    bits,
    groupSize,
    qweight: new Int32Array(Math.ceil((inFeatures * bits) / 32) * outFeatures),
    qzeros: new Int32Array(groups * Math.ceil((outFeatures * bits) / 32)).fill(bits === 8 ? 0x80808080 : 0x88888888),
    zeroOffset: 0,
    scales: new Uint16Array(groups * outFeatures),
    gIdx: null,
    bias: null,
  };
  const rowBytes = inFeatures * (dtype === 'f32' ? 4 : 2);
  const rowsAtOnce = Math.max(1, Math.floor(READ_BYTES / rowBytes));
  // One row's floats, used again: ten thousands of small buffers keep an isolate's collector busy.
  const values = new Float32Array(inFeatures);
  for (let first = 0; first < outFeatures; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, outFeatures - first);
    const bytes = await table.read(first, count);
    for (let row = 0; row < count; row++) {
      readRow(bytes, row * rowBytes, dtype, values);
      requantizeRow(values, weight, first + row, table);
    }
  }
  return weight;
}

/** Fills `values` from `bytes`, which may start anywhere in their buffer. */
function readRow(bytes: Uint8Array, begin: number, dtype: DenseWeight['dtype'], values: Float32Array): void {
  if (dtype === 'f32') {
    new Uint8Array(values.buffer).set(bytes.subarray(begin, begin + values.byteLength));
    return;
  }
  const widen = dtype === 'f16' ? f16ToF32 : bf16ToF32;
  for (let k = 0, at = begin; k < values.length; k++, at += 2) values[k] = widen(bytes[at]! | (bytes[at + 1]! << 8));
}

function requantizeRow(values: Float32Array, weight: GptqWeight, row: number, table: TableRows): void {
  const { qweight, scales, groupSize, outFeatures, inFeatures, bits } = weight;
  const zero = 2 ** (bits - 1);
  const perWord = 32 / bits;
  for (let begin = 0, group = 0; begin < inFeatures; begin += groupSize, group++) {
    const end = Math.min(begin + groupSize, inFeatures);
    const half = scaleOf(values, begin, end, zero);
    if (half === null)
      throw new NibbleError({
        code: 'file_invalid',
        file: table.file,
        tensor: table.name,
        rule: `row ${row} holds values among ${begin}..${end - 1} that no f16 scale of ${bits} bits covers`,
      });
    scales[group * outFeatures + row] = half;
    const scale = f16ToF32(half);
    for (let k = begin; k < end; k++) {
      const rounded = scale === 0 ? 0 : Math.round(values[k]! / scale);
      const stored = Math.min(zero - 1, Math.max(-zero, rounded)) + zero;
      qweight[Math.floor(k / perWord) * outFeatures + row]! |= stored << (bits * (k % perWord));
    }
  }
}

/** The f16 that brings values[begin..end) within −zero..zero − 1; null when there is none. */
function scaleOf(values: Float32Array, begin: number, end: number, zero: number): number | null {
  let [least, most] = [0, 0];
  for (let k = begin; k < end; k++) {
    const value = values[k]!;
    if (!Number.isFinite(value)) return null;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  let half = f32ToF16(Math.max(most / (zero - 1), -least / zero));
  // Rounded down too far, as subnormals can be: an extreme would lie more than half a step outside.
  if (most > f16ToF32(half) * (zero - 0.5) || -least > f16ToF32(half) * (zero + 0.5)) half++;
  return (half & 0x7c00) === 0x7c00 ? null : half;
}
