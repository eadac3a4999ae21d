/** WeightFormat: how the weights of a measured model are stored, from flags, and random weights in that format. */
import { f32ToF16Array } from '../../core/formats/half.ts';
import { BNB4_TABLES, nestAbsmax } from '../../core/formats/nf4-fp4.ts';
import type { Bnb4Weight, DenseWeight, GptqWeight, Int8Weight, LinearWeight } from '../../core/model/backend.ts';
import { type Flag, type Options, usage } from '../command-line.ts';
import type { RandomWords } from './random-words.ts';
import type { MatrixShape } from './shape.ts';

export type WeightFormat =
  | { kind: 'dense'; dtype: 'f16' | 'f32' }
  /** groupSize null: one group. */
  | { kind: 'gptq'; bits: GptqWeight['bits']; groupSize: number | null; sym: boolean; actOrder: boolean }
  | { kind: 'nf4' | 'fp4' }
  | { kind: 'int8' };

export const WEIGHT_FLAGS = {
  weights: {
    kind: 'text',
    choices: ['gptq', 'nf4', 'fp4', 'int8', 'dense'],
    help: 'how random weights are stored (gptq)',
  },
  bits: { kind: 'integer', minimum: 2, help: 'bits of a GPTQ weight: 2, 3, 4 or 8 (4)' },
  'group-size': {
    kind: 'integer',
    synonyms: ['groupsize'],
    minimum: -1,
    help: 'input channels per GPTQ scale; -1: one group (128)',
  },
  'desc-act': { kind: 'toggle', synonyms: ['act-order'], help: 'GPTQ groups in any order of channels (no)' },
  sym: { kind: 'toggle', help: 'GPTQ zero points in the middle (yes)' },
  'head-bits': { kind: 'text', choices: ['16', '8', '4'], help: 'bits of the head: f16, or GPTQ in groups of 32 (16)' },
} as const satisfies Record<string, Flag>;

/** Of bitsandbytes: one maximum for so many weights. */
const BNB4_BLOCK = 64;
/** Of bitsandbytes: activations beyond it are taken out of the 8-bit product. */
const INT8_THRESHOLD = 6;
/** So that a requantized head has as many bytes as llama.cpp's Q4_0 and Q8_0, whose blocks are 32. */
const HEAD_GROUP = 32;

export function weightFormatOf(options: Options): WeightFormat {
  const kind = (options.text('weights') ?? 'gptq') as 'gptq' | 'nf4' | 'fp4' | 'int8' | 'dense';
  if (kind !== 'gptq') {
    for (const flag of ['bits', 'group-size', 'desc-act', 'sym'])
      if (options.has(flag)) throw usage(`--${flag} is for --weights gptq, not ${kind}`);
    return kind === 'dense' ? { kind, dtype: 'f16' } : { kind };
  }
  const bits = options.number('bits') ?? 4;
  if (bits !== 2 && bits !== 3 && bits !== 4 && bits !== 8) throw usage(`--bits is ${bits}; it is one of 2, 3, 4, 8`);
  const groupSize = options.number('group-size') ?? 128;
  if (groupSize === 0) throw usage('--group-size is 0; it is -1 (one group) or at least 1');
  const [sym, actOrder] = [options.toggle('sym') ?? true, options.toggle('desc-act') ?? false];
  return { kind, bits, groupSize: groupSize < 0 ? null : groupSize, sym, actOrder };
}

export function headFormatOf(options: Options): WeightFormat {
  const bits = options.text('head-bits') ?? '16';
  if (bits === '16') return { kind: 'dense', dtype: 'f16' };
  return { kind: 'gptq', bits: bits === '8' ? 8 : 4, groupSize: HEAD_GROUP, sym: true, actOrder: false };
}

/** "gptq4-g128", "nf4", "f16". */
export function formatLabel(format: WeightFormat): string {
  switch (format.kind) {
    case 'dense':
      return format.dtype;
    case 'gptq': {
      const group = format.groupSize === null ? '' : `-g${format.groupSize}`;
      return `gptq${format.bits}${group}${format.sym ? '' : '-asym'}${format.actOrder ? '-act-order' : ''}`;
    }
    default:
      return format.kind;
  }
}

/** Values of mean 0 and standard deviation about 1/√in, so that activations keep their size through the layers. Throws `usage` where the format cannot hold the shape. */
export function randomWeight(format: WeightFormat, shape: MatrixShape, random: RandomWords): LinearWeight {
  switch (format.kind) {
    case 'dense':
      return randomDense(format.dtype, shape, random);
    case 'gptq':
      return randomGptq(format, shape, random);
    case 'nf4':
    case 'fp4':
      return randomBnb4(format.kind, shape, random);
    case 'int8':
      return randomInt8(shape, random);
    default:
      return format satisfies never;
  }
}

function randomDense(dtype: 'f16' | 'f32', { out, in: inFeatures }: MatrixShape, random: RandomWords): DenseWeight {
  const limit = Math.sqrt(3 / inFeatures);
  const rest = { kind: 'dense' as const, outFeatures: out, inFeatures, dtype, bias: null };
  if (dtype === 'f32')
    return { ...rest, bytes: new Uint8Array(random.uniform(out * inFeatures, -limit, limit).buffer) };
  // A table of 4,096 values instead of a rounding each: half a billion weights in a second.
  const values = f32ToF16Array(random.uniform(4096, -limit, limit));
  const picks = new Uint16Array(random.bytes(out * inFeatures * 2).buffer, 0, out * inFeatures);
  for (let i = 0; i < picks.length; i++) picks[i] = values[picks[i]! & 4095]!;
  return { ...rest, bytes: new Uint8Array(picks.buffer, 0, picks.byteLength) };
}

function randomGptq(
  format: Extract<WeightFormat, { kind: 'gptq' }>,
  { name, out, in: inFeatures }: MatrixShape,
  random: RandomWords,
): GptqWeight {
  const { bits, sym } = format;
  if ((inFeatures * bits) % 32 !== 0 || (out * bits) % 32 !== 0)
    throw usage(
      `${name} [${out}, ${inFeatures}] in ${bits} bits does not fill 32-bit words; choose another --shape or --bits`,
    );
  const groupSize = Math.min(format.groupSize ?? inFeatures, inFeatures);
  const groups = Math.ceil(inFeatures / groupSize);
  const qweight = new Int32Array((inFeatures * bits * out) / 32);
  random.fill(qweight);
  const qzeros = new Int32Array((groups * out * bits) / 32);
  if (sym) fillStored(qzeros, bits, 2 ** (bits - 1) - 1);
  else random.fill(qzeros);
  // Uniform integers 0..2^bits − 1 deviate by about 2^bits / √12.
  const step = Math.sqrt(12) / 2 ** bits / Math.sqrt(inFeatures);
  return {
    kind: 'gptq',
    outFeatures: out,
    inFeatures,
    bits,
    groupSize,
    qweight,
    qzeros,
    zeroOffset: 1,
    scales: f32ToF16Array(random.uniform(groups * out, 0.75 * step, 1.25 * step)),
    gIdx: format.actOrder ? shuffledGroups(inFeatures, groupSize, random) : null,
    bias: null,
  };
}

/** Every field of the words: `value`, packed without gaps, 3 bits across words too. */
function fillStored(words: Int32Array, bits: number, value: number): void {
  for (let bit = 0; bit < words.length * 32; bit++)
    if ((value >> (bit % bits)) & 1) words[bit >>> 5]! |= 1 << (bit & 31);
}

/** As quantizing by falling activation leaves them: groups of the usual sizes, channels anywhere. */
function shuffledGroups(inFeatures: number, groupSize: number, random: RandomWords): Int32Array {
  const groups = Int32Array.from({ length: inFeatures }, (_, k) => Math.floor(k / groupSize));
  const draws = random.uniform(inFeatures, 0, 1);
  for (let k = inFeatures - 1; k > 0; k--) {
    const other = Math.floor(draws[k]! * (k + 1));
    [groups[k], groups[other]] = [groups[other]!, groups[k]!];
  }
  return groups;
}

function randomBnb4(quantType: 'nf4' | 'fp4', { out, in: inFeatures }: MatrixShape, random: RandomWords): Bnb4Weight {
  const blocks = Math.ceil((out * inFeatures) / BNB4_BLOCK);
  const largest = 2 / Math.sqrt(inFeatures);
  return {
    kind: 'bnb4',
    outFeatures: out,
    inFeatures,
    quantType,
    blockSize: BNB4_BLOCK,
    packed: random.bytes(Math.ceil((out * inFeatures) / 2)),
    table: BNB4_TABLES[quantType],
    absmax: nestAbsmax(random.uniform(blocks, 0.75 * largest, 1.25 * largest)),
    bias: null,
  };
}

function randomInt8({ out, in: inFeatures }: MatrixShape, random: RandomWords): Int8Weight {
  const largest = Math.sqrt(3 / inFeatures);
  const bytes = random.bytes(out * inFeatures);
  return {
    kind: 'int8',
    outFeatures: out,
    inFeatures,
    values: new Int8Array(bytes.buffer, 0, bytes.length),
    rowAbsmax: random.uniform(out, 0.75 * largest, 1.25 * largest),
    threshold: INT8_THRESHOLD,
    bias: null,
  };
}
