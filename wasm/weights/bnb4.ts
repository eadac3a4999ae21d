/** Bnb4: NF4 and FP4 codes with their blocks' maxima. Codes stay 4 bits; nested maxima become f32, which costs 0.37 bits a weight in blocks of 64 and spares the kernel a look-up and two roundings. */
import type { Bnb4Absmax, Bnb4Weight, Linear } from '../../core/model/backend.ts';
import type { KernelMemory } from '../memory.ts';
import { expectLength, impossible } from '../tensors.ts';
import { type PlacedPlan, placePlan, planChunks } from './chunk-plan.ts';
import { OCTET_WORDS, putOctet } from './octets.ts';
import { invalid, placeBias } from './parts.ts';

/** Values are looked up as table / max|table| · TABLE_STEPS + 2^13, 14 bits in two parts of 7. */
const TABLE_STEPS = 8191;

export interface Bnb4Linear extends Linear {
  kind: 'bnb4';
  memory: KernelMemory;
  layout: Bnb4Chunks | Bnb4Blocks;
  /** [⌈out/8⌉·8] f32, zeros without a bias */
  bias: number;
}

/** No block ends inside 32 channels: the integer kernel. */
interface Bnb4Chunks {
  kind: 'chunks';
  plan: PlacedPlan;
  /** [blocks, octets] octets of 8 channels × 8 rows */
  q: number;
  /** low[16], high[16] u8 */
  tables: number;
  /** [blocks, groups, 8] f32 */
  scales: number;
}

/** As in the checkpoint. */
interface Bnb4Blocks {
  kind: 'blocks';
  /** [⌈out·in/2⌉] u8 */
  codes: number;
  /** [16] f32 */
  table: number;
  /** [blocks] f32 */
  absmax: number;
  blockSize: number;
}

export function loadBnb4(memory: KernelMemory, weight: Bnb4Weight, label: string): Bnb4Linear {
  const { outFeatures, inFeatures, blockSize, packed, table } = weight;
  if (!(blockSize > 0)) throw impossible(`${label}: blocks of ${blockSize} values`);
  const values = outFeatures * inFeatures;
  expectLength(label, 'packed', packed.length, Math.ceil(values / 2));
  expectLength(label, 'table', table.length, 16);
  if (!table.every(Number.isFinite)) throw invalid(label, 'a value of the 4-bit table is not finite');
  const absmax = expandAbsmax(weight.absmax, Math.ceil(values / blockSize), label);

  const blocks = Math.ceil(outFeatures / 8);
  const isAligned = inFeatures % 32 === 0 && (blockSize % 32 === 0 || blockSize >= values);
  const { layout, bytes } = (isAligned ? placeChunks : placeBlocks)(memory, weight, absmax, label);
  const bias = placeBias(memory, weight.bias, blocks * 8, label);
  return { kind: 'bnb4', memory, outFeatures, inFeatures, bytes: bytes + blocks * 32, layout, bias };
}

type PlacedLayout = { layout: Bnb4Linear['layout']; bytes: number };

function placeChunks(memory: KernelMemory, weight: Bnb4Weight, absmax: Float32Array, label: string): PlacedLayout {
  const { outFeatures, inFeatures, packed, table } = weight;
  const blockSize = Math.min(weight.blockSize, outFeatures * inFeatures);
  // Rows start inside blocks, so scales go by runs that end wherever some row's block may.
  const run = greatestCommonDivisor(inFeatures, blockSize);
  const plan = planChunks(inFeatures, inFeatures / run, (k) => Math.floor(k / run));
  const placed = placePlan(memory, plan, inFeatures, label);
  const { octets, groups } = placed;
  const blocks = Math.ceil(outFeatures / 8);

  const words = blocks * octets * OCTET_WORDS[4];
  const q = memory.permanent(words * 4, label);
  const target = memory.u32(q, words);
  for (let row = 0, at = 0; row < outFeatures; row++)
    for (let octet = 0; octet < octets; octet++, at += 4) {
      const low = spread(packed[at]!) | (spread(packed[at + 1]!) << 16);
      const high = spread(packed[at + 2]!) | (spread(packed[at + 3]!) << 16);
      putOctet(4, target, ((row >> 3) * octets + octet) * OCTET_WORDS[4], row & 7, low, high);
    }

  const largest = table.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const tables = memory.permanent(32, label);
  const parts = memory.u8(tables, 32);
  table.forEach((value, code) => {
    const steps = (largest === 0 ? 0 : Math.round((value / largest) * TABLE_STEPS)) + 8192;
    parts[code] = steps & 127;
    parts[16 + code] = steps >> 7;
  });

  const scaleCount = blocks * groups * 8;
  const scales = memory.permanent(scaleCount * 4, label);
  const scaleValues = memory.f32(scales, scaleCount);
  for (let row = 0; row < outFeatures; row++)
    for (let group = 0; group < groups; group++)
      scaleValues[((row >> 3) * groups + group) * 8 + (row & 7)] =
        (absmax[Math.floor((row * inFeatures + group * run) / blockSize)]! * largest) / TABLE_STEPS;
  return {
    layout: { kind: 'chunks', plan: placed, q, tables, scales },
    bytes: words * 4 + placed.bytes + 32 + scaleCount * 4,
  };
}

function placeBlocks(memory: KernelMemory, weight: Bnb4Weight, absmax: Float32Array, label: string): PlacedLayout {
  const codes = memory.permanent(weight.packed.length, label);
  memory.u8(codes, weight.packed.length).set(weight.packed);
  const place = (values: Float32Array) => {
    const address = memory.permanent(values.byteLength, label);
    memory.f32(address, values.length).set(values);
    return address;
  };
  return {
    layout: { kind: 'blocks', codes, table: place(weight.table), absmax: place(absmax), blockSize: weight.blockSize },
    bytes: weight.packed.length + 64 + absmax.byteLength,
  };
}

/** The high nibble to the first byte, the low one to the second. */
function spread(pair: number): number {
  return (pair >> 4) | ((pair & 15) << 8);
}

/** [blocks] f32, rounded after each operation as bitsandbytes does. */
function expandAbsmax(absmax: Bnb4Absmax, blocks: number, label: string): Float32Array {
  if (absmax.kind === 'plain') {
    expectLength(label, 'absmax', absmax.values.length, blocks);
    return absmax.values;
  }
  const { codes, table, nested, blockSize, offset } = absmax;
  expectLength(label, 'absmax codes', codes.length, blocks);
  expectLength(label, 'absmax table', table.length, 256);
  expectLength(label, 'nested absmax', nested.length, Math.ceil(blocks / blockSize));
  return Float32Array.from(
    codes,
    (code, i) => Math.fround(table[code]! * nested[Math.floor(i / blockSize)]!) + Math.fround(offset),
  );
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
