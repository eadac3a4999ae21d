/** NF4 and FP4: bitsandbytes' block-wise 4-bit floats; bit for bit what its CPU path gives. */
import type { Bnb4Absmax, Bnb4Weight } from '../model/backend.ts';
import { DYNAMIC_MAP, NESTED_BLOCK_SIZE, quantizeDynamic } from './dynamic-map.ts';
import { torchSum } from './torch-sum.ts';

export type Bnb4Type = Bnb4Weight['quantType'];

/** [16] f32 value of each code. NF4: quantiles of a normal distribution; FP4: sign, two bits of exponent, one of fraction, over 12. */
export const BNB4_TABLES: Readonly<Record<Bnb4Type, Float32Array>> = {
  nf4: Float32Array.of(
    -1,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1,
  ),
  fp4: Float32Array.from([0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3], (raw) => raw / 12),
};

/** Codes by rising value. FP4 has two zeros: −0 (code 8) stands above 0, so what is just above zero gets code 8, as in bitsandbytes' CPU path. */
const RISING: Readonly<Record<Bnb4Type, readonly number[]>> = {
  nf4: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  fp4: [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
};

/** [15] f32 halfway between neighbours. */
const MIDPOINTS: Readonly<Record<Bnb4Type, Float32Array>> = { nf4: midpoints('nf4'), fp4: midpoints('fp4') };

function midpoints(type: Bnb4Type): Float32Array {
  const value = (rank: number) => BNB4_TABLES[type][RISING[type][rank]!]!;
  return Float32Array.from({ length: 15 }, (_, rank) => Math.fround(value(rank) + value(rank + 1)) / 2);
}

/** Of −1 to 1: so narrow that no two midpoints share one. */
const STEPS_PER_UNIT = 1024;

/** By step: the midpoint that may lie in it or is the next above it (none: infinity), and the codes below and above that. */
interface Steps {
  bounds: Float32Array;
  below: Uint8Array;
  above: Uint8Array;
}

const STEPS: Readonly<Record<Bnb4Type, Steps>> = { nf4: stepsOf('nf4'), fp4: stepsOf('fp4') };

function stepsOf(type: Bnb4Type): Steps {
  const count = 2 * STEPS_PER_UNIT + 1;
  // Where the sum that counts steps is rounded up, a value lies below its step by less than this.
  const slack = 1e-9;
  const ranks = Array.from(
    { length: count },
    (_, step) => MIDPOINTS[type].filter((middle) => middle < step / STEPS_PER_UNIT - 1 - slack).length,
  );
  return {
    bounds: Float32Array.from(ranks, (rank) => MIDPOINTS[type][rank] ?? Number.POSITIVE_INFINITY),
    below: Uint8Array.from(ranks, (rank) => RISING[type][rank]!),
    above: Uint8Array.from(ranks, (rank) => RISING[type][rank + 1] ?? 0),
  };
}

/** The least divisor: 1e-38 as f32, as in bitsandbytes. */
const LEAST_ABSMAX = Math.fround(1e-38);

/**
 * values [n] f32, finite → packed [⌈n/2⌉], the first of two codes in the high half, and absmax [⌈n/blockSize⌉]. A value halfway between
 * two codes takes the lower value. As bitsandbytes' CPU path does it: whole blocks multiply by 1/absmax, a short last block divides,
 * and its absmax is at least 1e-38; an odd last code is paired with the code of 0 (7 for NF4, 0 for FP4).
 */
export function quantizeBnb4(
  values: Float32Array,
  type: Bnb4Type,
  blockSize: number,
): { packed: Uint8Array; absmax: Float32Array } {
  const { bounds, below, above } = STEPS[type];
  const packed = new Uint8Array(Math.ceil(values.length / 2));
  const absmax = new Float32Array(Math.ceil(values.length / blockSize));
  for (let block = 0; block < absmax.length; block++) {
    const begin = block * blockSize;
    const end = Math.min(begin + blockSize, values.length);
    let largest = 0;
    for (let i = begin; i < end; i++) {
      const magnitude = Math.abs(values[i]!);
      if (magnitude > largest) largest = magnitude;
    }
    const divisor = Math.max(largest, LEAST_ABSMAX);
    const isWhole = end - begin === blockSize;
    absmax[block] = isWhole ? largest : divisor;
    const inverse = Math.fround(1 / divisor);
    for (let i = begin; i < end; i++) {
      const scaled = Math.fround(isWhole ? values[i]! * inverse : values[i]! / divisor);
      const step = ((scaled + 1) * STEPS_PER_UNIT) | 0;
      const code = bounds[step]! < scaled ? above[step]! : below[step]!;
      packed[i >> 1]! |= (i & 1) === 0 ? code << 4 : code;
    }
  }
  if (values.length % 2 === 1) packed[values.length >> 1]! |= RISING[type][7]!;
  return { packed, absmax };
}

/** absmax [blocks] → its double quantization (compress_statistics): less its mean, in 8 bits. */
export function nestAbsmax(absmax: Float32Array): Bnb4Absmax {
  const offset = Math.fround(torchSum(absmax) / absmax.length);
  const { codes, absmax: nested } = quantizeDynamic(absmax.map((value) => value - offset));
  return { kind: 'nested', codes, table: DYNAMIC_MAP, nested, blockSize: NESTED_BLOCK_SIZE, offset };
}

/** [blocks] f32 */
export function absmaxOf({ absmax }: Pick<Bnb4Weight, 'absmax'>): Float32Array {
  if (absmax.kind === 'plain') return absmax.values;
  const { codes, table, nested, blockSize, offset } = absmax;
  return Float32Array.from(
    codes,
    (code, i) => Math.fround(table[code]! * nested[Math.floor(i / blockSize)]!) + Math.fround(offset),
  );
}

/** W [out, in] f32, W[n,k] = table[code] · absmax[block], rounded to f32 as bitsandbytes rounds it. */
export function dequantizeBnb4(weight: Bnb4Weight): Float32Array {
  const { outFeatures, inFeatures, blockSize, packed, table } = weight;
  const absmax = absmaxOf(weight);
  const values = new Float32Array(outFeatures * inFeatures);
  for (let i = 0; i < values.length; i++) {
    const code = i % 2 === 0 ? packed[i >> 1]! >> 4 : packed[i >> 1]! & 15;
    values[i] = table[code]! * absmax[Math.floor(i / blockSize)]!;
  }
  return values;
}
