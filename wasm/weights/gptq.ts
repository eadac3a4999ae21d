/** GPTQ: packed integers of 2, 3, 4 or 8 bits, any groups in any order, repacked for the kernels without ever becoming floats. */
import type { GptqWeight, Linear } from '../../core/model/backend.ts';
import type { KernelMemory } from '../memory.ts';
import { expectLength, impossible } from '../tensors.ts';
import { type ChunkPlan, type PlacedPlan, placePlan, planChunks } from './chunk-plan.ts';
import { OCTET_WORDS, putOctet } from './octets.ts';
import { expectFinite, placeBias } from './parts.ts';

export interface GptqLinear extends Linear {
  kind: 'gptq';
  memory: KernelMemory;
  bits: 2 | 3 | 4 | 8;
  plan: PlacedPlan;
  /** [blocks, octets] octets of 8 places × 8 rows */
  q: number;
  /** [blocks, groups, 8] f16 */
  scales: number;
  /** [blocks, groups, 8] u8; null: 2^(bits−1) throughout */
  zeros: number | null;
  /** [blocks·8] f32, zeros without a bias */
  bias: number;
}

export function loadGptq(memory: KernelMemory, weight: GptqWeight, label: string): GptqLinear {
  const { outFeatures, inFeatures, bits, gIdx } = weight;
  const groupSize = Math.min(weight.groupSize, inFeatures);
  if (!(groupSize > 0)) throw impossible(`${label}: groups of ${weight.groupSize} channels`);
  const weightGroups = Math.ceil(inFeatures / groupSize);
  const zeroWords = Math.ceil((outFeatures * bits) / 32);
  expectLength(label, 'qweight', weight.qweight.length, Math.ceil((inFeatures * bits) / 32) * outFeatures);
  expectLength(label, 'qzeros', weight.qzeros.length, weightGroups * zeroWords);
  expectLength(label, 'scales', weight.scales.length, weightGroups * outFeatures);
  if (gIdx !== null) {
    expectLength(label, 'gIdx', gIdx.length, inFeatures);
    const outside = gIdx.find((group) => group < 0 || group >= weightGroups);
    if (outside !== undefined) throw impossible(`${label}: group ${outside} of ${weightGroups}`);
  }
  expectFinite(label, weight.scales);

  const plan = planChunks(inFeatures, weightGroups, (k) => gIdx?.[k] ?? Math.floor(k / groupSize));
  const placed = placePlan(memory, plan, inFeatures, label);
  const blocks = Math.ceil(outFeatures / 8);
  const words = blocks * plan.octets * OCTET_WORDS[bits];
  const q = memory.permanent(words * 4, label);
  packOctets(weight, plan, memory.u32(q, words));

  const scaleCount = blocks * plan.present.length * 8;
  const scales = memory.permanent(scaleCount * 2, label);
  const { placedScales, placedZeros } = regroup(weight, plan.present, scaleCount, zeroWords);
  memory.u16(scales, scaleCount).set(placedScales);
  const symmetric = placedZeros.every((zero) => zero === 2 ** (bits - 1));
  const zeros = symmetric ? null : memory.permanent(scaleCount, label);
  if (zeros !== null) memory.u8(zeros, scaleCount).set(placedZeros);
  return {
    kind: 'gptq',
    memory,
    outFeatures,
    inFeatures,
    bytes: words * 4 + placed.bytes + scaleCount * (symmetric ? 2 : 3) + blocks * 32,
    bits,
    plan: placed,
    q,
    scales,
    zeros,
    bias: placeBias(memory, weight.bias, blocks * 8, label),
  };
}

/** Value `index` of words first, first + stride, …: `bits` bits each, lowest first, without padding; 3-bit values may cross a word. */
function field(words: Int32Array, first: number, stride: number, index: number, bits: number): number {
  const at = first + ((index * bits) >>> 5) * stride;
  const shift = (index * bits) & 31;
  const low = words[at]! >>> shift;
  return (shift + bits > 32 ? low | (words[at + stride]! << (32 - shift)) : low) & (2 ** bits - 1);
}

function packOctets({ qweight, outFeatures, inFeatures, bits }: GptqWeight, plan: ChunkPlan, target: Uint32Array) {
  const low = new Int32Array(outFeatures);
  const high = new Int32Array(outFeatures);
  for (let octet = 0; octet < plan.octets; octet++) {
    low.fill(0);
    high.fill(0);
    for (let c = 0; c < 8; c++) {
      const channel = plan.places[octet * 8 + c]!;
      if (channel === inFeatures) continue;
      const half = c < 4 ? low : high;
      for (let row = 0; row < outFeatures; row++)
        half[row]! |= field(qweight, row, outFeatures, channel, bits) << (8 * (c & 3));
    }
    for (let row = 0; row < outFeatures; row++)
      putOctet(bits, target, ((row >> 3) * plan.octets + octet) * OCTET_WORDS[bits], row & 7, low[row]!, high[row]!);
  }
}

/** Scales and zero points as [blocks, groups, 8], of the groups that have channels. Zero points wrap within `bits` bits. */
function regroup(weight: GptqWeight, present: number[], count: number, zeroWords: number) {
  const { outFeatures, bits, qzeros, scales, zeroOffset } = weight;
  const maxValue = 2 ** bits - 1;
  const placedScales = new Uint16Array(count);
  const placedZeros = new Uint8Array(count).fill(2 ** (bits - 1));
  present.forEach((group, g) => {
    for (let row = 0; row < outFeatures; row++) {
      const at = ((row >> 3) * present.length + g) * 8 + (row & 7);
      placedScales[at] = scales[group * outFeatures + row]!;
      placedZeros[at] = (field(qzeros, group * zeroWords, 1, row, bits) + zeroOffset) & maxValue;
    }
  });
  return { placedScales, placedZeros };
}
