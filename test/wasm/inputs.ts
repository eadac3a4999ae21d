/** Inputs as a graph would bring them. Pure: workerd runs it too. */
import type {
  Activation,
  Backend,
  Batch,
  Bnb4Weight,
  DenseWeight,
  GptqWeight,
  Int8Weight,
  LinearWeight,
} from '../../core/model/backend.ts';
import { gaussian, random } from './oracle.ts';

/** Around every tile: 1, 2 and 4 tokens. */
export const ROW_COUNTS = [1, 2, 3, 4, 5, 15, 16, 17, 33];

export function gaussians(count: number, seed: number): Float32Array {
  return new Float32Array(count).map(gaussian(seed));
}

export function denseOf(values: Float32Array, inFeatures: number, bias: Float32Array | null = null): DenseWeight {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { kind: 'dense', outFeatures: values.length / inFeatures, inFeatures, dtype: 'f32', bytes, bias };
}

/** Tokens 0..count−1, each in its own sequence at position 0. */
export function tokensBatch(count: number): Batch {
  return {
    tokenIds: Int32Array.from({ length: count }, (_, i) => i),
    positions: new Int32Array(count),
    slots: new Int32Array(count),
    sequenceOf: new Int32Array(count),
    pageTables: new Int32Array(1),
    maxPages: 1,
    outputRows: new Int32Array(0),
    plannedTokens: new Int32Array(count).fill(1),
  };
}

/** Brings `values` [rows, cols] in. */
export async function place(backend: Backend, values: Float32Array, cols: number): Promise<Activation> {
  const table = await backend.loadLinear(denseOf(values, cols), 'input');
  return backend.embed(
    table,
    Int32Array.from({ length: values.length / cols }, (_, i) => i),
    1,
  );
}

/** y of a linear over x [rows, in] in a step of its own. */
export async function runLinear(backend: Backend, weight: LinearWeight, x: Float32Array): Promise<Float32Array> {
  const linear = await backend.loadLinear(weight, 'weight');
  backend.begin(tokensBatch(x.length / weight.inFeatures));
  return backend.read(backend.linear(await place(backend, x, weight.inFeatures), linear));
}

export interface GptqOptions {
  outFeatures: number;
  inFeatures: number;
  groupSize: number;
  sym: boolean;
  bits?: 2 | 3 | 4 | 8;
  /** Channels in groups of falling activation: any order, groups as full as in order. */
  actOrder?: boolean;
  bias?: boolean;
  zeroOffset?: 0 | 1;
  seed?: number;
}

/** Random integers, scales of either sign in the normal range, zeros in the middle or anything. */
export function gptqOf(options: GptqOptions): GptqWeight {
  const { outFeatures, inFeatures, groupSize, sym, bits = 4, actOrder = false, bias = false } = options;
  const { zeroOffset = 1, seed = 1 } = options;
  const next = random(seed);
  const word = () => (next() * 2 ** 32) | 0;
  const groups = Math.ceil(inFeatures / groupSize);
  const zeroWords = Math.ceil((outFeatures * bits) / 32);
  return {
    kind: 'gptq',
    outFeatures,
    inFeatures,
    bits,
    groupSize,
    qweight: new Int32Array(Math.ceil((inFeatures * bits) / 32) * outFeatures).map(word),
    qzeros: sym
      ? repeat(middleZeros(outFeatures, bits, zeroOffset), groups)
      : new Int32Array(groups * zeroWords).map(word),
    zeroOffset,
    // 2^-7 to 2^-5
    scales: new Uint16Array(groups * outFeatures).map(() => (next() < 0.1 ? 0x8000 : 0) | (0x2000 + next() * 0x800)),
    gIdx: actOrder ? shuffled(inFeatures, next).map((rank) => Math.floor(rank / groupSize)) : null,
    bias: bias ? new Float32Array(outFeatures).map(() => next() - 0.5) : null,
  };
}

/** One group's words, every zero point 2^(bits−1). */
function middleZeros(outFeatures: number, bits: number, zeroOffset: number): Int32Array {
  const words = new Int32Array(Math.ceil((outFeatures * bits) / 32));
  for (let bit = 0; bit < outFeatures * bits; bit++)
    words[bit >> 5]! |= (((2 ** (bits - 1) - zeroOffset) >> (bit % bits)) & 1) << (bit & 31);
  return words;
}

function repeat(words: Int32Array, times: number): Int32Array {
  return Int32Array.from({ length: words.length * times }, (_, i) => words[i % words.length]!);
}

function shuffled(count: number, next: () => number): Int32Array {
  const ranks = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor(next() * (i + 1));
    [ranks[i], ranks[other]] = [ranks[other]!, ranks[i]!];
  }
  return ranks;
}

// biome-ignore format: one table a line
const TABLES = {
  nf4: [-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
  fp4: [0, 0.0625, 8, 12, 4, 6, 2, 3, -0, -0.0625, -8, -12, -4, -6, -2, -3].map((value) => value / 12),
} as const;

export interface Bnb4Options {
  quantType: 'nf4' | 'fp4';
  blockSize: number;
  nested?: boolean;
  bias?: Float32Array | null;
}

/** `values` [out, in] to their nearest codes. Nested maxima are rounded to a coarse table of 256 steps. */
export function bnb4Of(values: Float32Array, inFeatures: number, options: Bnb4Options): Bnb4Weight {
  const { quantType, blockSize, nested = false, bias = null } = options;
  const table = Float32Array.from(TABLES[quantType]);
  const blocks = Math.ceil(values.length / blockSize);
  const absmax = Float32Array.from({ length: blocks }, (_, block) =>
    values
      .subarray(block * blockSize, (block + 1) * blockSize)
      .reduce((most, value) => Math.max(most, Math.abs(value)), 0),
  );
  const packed = new Uint8Array(Math.ceil(values.length / 2));
  values.forEach((value, i) => {
    const share = value / absmax[Math.floor(i / blockSize)]!;
    let code = 0;
    for (let c = 1; c < 16; c++) if (Math.abs(table[c]! - share) < Math.abs(table[code]! - share)) code = c;
    packed[i >> 1]! |= i % 2 === 0 ? code << 4 : code;
  });
  return {
    kind: 'bnb4',
    outFeatures: values.length / inFeatures,
    inFeatures,
    quantType,
    blockSize,
    packed,
    table,
    absmax: nested ? nestedOf(absmax) : { kind: 'plain', values: absmax },
    bias,
  };
}

function nestedOf(absmax: Float32Array): Bnb4Weight['absmax'] {
  const blockSize = 3;
  const offset = 0.25;
  const table = Float32Array.from({ length: 256 }, (_, code) => (code - 127) / 128);
  const nested = Float32Array.from({ length: Math.ceil(absmax.length / blockSize) }, (_, at) =>
    absmax
      .subarray(at * blockSize, (at + 1) * blockSize)
      .reduce((most, value) => Math.max(most, Math.abs(value - offset)), 0.125),
  );
  const codes = Uint8Array.from(
    absmax,
    (value, i) => Math.round(((value - offset) / nested[Math.floor(i / blockSize)]!) * 127) + 127,
  );
  return { kind: 'nested', codes, table, nested, blockSize, offset };
}

/** `values` [out, in] in rows of int8. */
export function int8Of(
  values: Float32Array,
  inFeatures: number,
  threshold: number,
  bias: Float32Array | null = null,
): Int8Weight {
  const outFeatures = values.length / inFeatures;
  const rowAbsmax = Float32Array.from({ length: outFeatures }, (_, row) =>
    values
      .subarray(row * inFeatures, (row + 1) * inFeatures)
      .reduce((most, value) => Math.max(most, Math.abs(value)), 0),
  );
  return {
    kind: 'int8',
    outFeatures,
    inFeatures,
    values: Int8Array.from(values, (value, i) => Math.round((value * 127) / rowAbsmax[Math.floor(i / inFeatures)]!)),
    rowAbsmax,
    threshold,
    bias,
  };
}
