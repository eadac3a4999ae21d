/** GPTQ packing: small unsigned integers in 32-bit words, and the plain-loop reference that turns a packed weight back into floats. */
import type { GptqWeight } from '../model/backend.ts';
import { f16ToF32 } from './half.ts';

/** The integers behind a packed weight. */
export interface GptqIntegers {
  /** [in, out] 0..2^bits - 1 */
  quantized: Uint8Array;
  /** [groups, out] 0..2^bits - 1 */
  zeros: Uint8Array;
}

export function groupsOf(weight: { inFeatures: number; groupSize: number }): number {
  return Math.ceil(weight.inFeatures / weight.groupSize);
}

/** A weight from its integers and scales. Throws when a zero point cannot be stored: with zeroOffset 1 it must be at least 1. */
export function packGptq(integers: GptqIntegers, rest: Omit<GptqWeight, 'kind' | 'qweight' | 'qzeros'>): GptqWeight {
  const { outFeatures, inFeatures, bits, zeroOffset } = rest;
  const groups = groupsOf(rest);
  const perWord = 32 / bits;
  if ((inFeatures * bits) % 32 !== 0 || (outFeatures * bits) % 32 !== 0)
    throw new Error(`${bits}-bit [${outFeatures}, ${inFeatures}] does not fill whole words of ${perWord} values`);
  if (integers.quantized.length !== inFeatures * outFeatures || integers.zeros.length !== groups * outFeatures)
    throw new Error(
      `${integers.quantized.length} values and ${integers.zeros.length} zeros for [${outFeatures}, ${inFeatures}] in ${groups} groups`,
    );

  const qweight = new Int32Array((inFeatures * outFeatures * bits) / 32);
  for (let k = 0; k < inFeatures; k++)
    for (let n = 0; n < outFeatures; n++)
      setField(qweight, n, outFeatures, k, bits, integers.quantized[k * outFeatures + n]!);

  const wordsPerGroup = (outFeatures * bits) / 32;
  const qzeros = new Int32Array(groups * wordsPerGroup);
  for (let g = 0; g < groups; g++)
    for (let n = 0; n < outFeatures; n++)
      setField(qzeros, g * wordsPerGroup, 1, n, bits, integers.zeros[g * outFeatures + n]! - zeroOffset);
  return { kind: 'gptq', ...rest, qweight, qzeros };
}

/** The inverse of packGptq. Zero points wrap within `bits` bits, as text-generation-inference's Triton kernel reads them. */
export function unpackGptq(weight: GptqWeight): GptqIntegers {
  const { outFeatures, inFeatures, bits, qweight, qzeros, zeroOffset } = weight;
  const maxValue = 2 ** bits - 1;
  const quantized = new Uint8Array(inFeatures * outFeatures);
  for (let k = 0; k < inFeatures; k++)
    for (let n = 0; n < outFeatures; n++) quantized[k * outFeatures + n] = field(qweight, n, outFeatures, k, bits);

  const groups = groupsOf(weight);
  const wordsPerGroup = Math.ceil((outFeatures * bits) / 32);
  const zeros = new Uint8Array(groups * outFeatures);
  for (let g = 0; g < groups; g++)
    for (let n = 0; n < outFeatures; n++)
      zeros[g * outFeatures + n] = (field(qzeros, g * wordsPerGroup, 1, n, bits) + zeroOffset) & maxValue;
  return { quantized, zeros };
}

/** W [out, in] f32, W[n,k] = scales[g,n] · (q[k,n] − zero[g,n]), g = gIdx[k] or k ÷ groupSize: what every kernel is compared with. */
export function dequantizeGptq(weight: GptqWeight): Float32Array {
  const { outFeatures, inFeatures, groupSize, gIdx, scales } = weight;
  const { quantized, zeros } = unpackGptq(weight);
  const values = new Float32Array(outFeatures * inFeatures);
  for (let n = 0; n < outFeatures; n++) {
    for (let k = 0; k < inFeatures; k++) {
      const group = (gIdx === null ? Math.floor(k / groupSize) : gIdx[k]!) * outFeatures + n;
      values[n * inFeatures + k] = f16ToF32(scales[group]!) * (quantized[k * outFeatures + n]! - zeros[group]!);
    }
  }
  return values;
}

/**
 * Value `index` of a run of words first, first + stride, …: `bits` bits each, lowest first, without padding.
 * For 2, 4 and 8 bits no value crosses a word; AutoGPTQ's 32 three-bit values in three words are the same rule.
 */
export function field(words: Int32Array, first: number, stride: number, index: number, bits: number): number {
  const bit = index * bits;
  const at = first + (bit >>> 5) * stride;
  const shift = bit & 31;
  const low = words[at]! >>> shift;
  const high = shift + bits > 32 ? words[at + stride]! << (32 - shift) : 0;
  return (low | high) & (2 ** bits - 1);
}

/** Sets a value of words that are still zero there. */
function setField(words: Int32Array, first: number, stride: number, index: number, bits: number, value: number): void {
  if (value < 0 || value >= 2 ** bits) throw new Error(`${value} does not fit in ${bits} bits`);
  const bit = index * bits;
  const at = first + (bit >>> 5) * stride;
  const shift = bit & 31;
  words[at]! |= value << shift;
  if (shift + bits > 32) words[at + stride]! |= value >>> (32 - shift);
}
