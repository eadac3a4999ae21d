/** GPTQ weights on the device: qweight, scales and zeros repacked there, slab by slab of outputs; layouts in kernels/gptq_format.wgsl. */
import type { GptqWeight } from '../../../core/model/backend.ts';
import type { ChannelBuffers } from './channel-buffers.ts';
import { channelOrder } from './channel-order.ts';
import type { GpuLinear, HalvesForm, WeightPart } from './gpu-linear.ts';
import { bytesOf, expectLength, type Loading, type RowRange } from './loading.ts';

/** Eight products with the largest code, of activations below 2^(largest+1), stay below 2^16. */
const HALVES = {
  2: { order: 2, largest: 8 },
  3: { order: 3, largest: 8 },
  4: { order: 4, largest: 8 },
  8: { order: 8, largest: 4 },
} as const satisfies Record<GptqWeight['bits'], HalvesForm>;

export async function loadGptq(loading: Loading, shared: ChannelBuffers, weight: GptqWeight): Promise<GpuLinear> {
  const { outFeatures, inFeatures, bits, qweight, qzeros, scales, gIdx, zeroOffset } = weight;
  const wordRows = Math.ceil((inFeatures * bits) / 32);
  const zeroWords = Math.ceil((outFeatures * bits) / 32);
  const sourceGroups = scales.length / outFeatures;
  expectLength(loading.label, 'qweight', qweight.length, wordRows * outFeatures);
  expectLength(loading.label, 'qzeros', qzeros.length, sourceGroups * zeroWords);
  if (gIdx !== null) expectLength(loading.label, 'g_idx', gIdx.length, inFeatures);

  const order = channelOrder(weight);
  const channels = order.channels === null ? null : await shared.of(order.channels, loading);
  const sources = order.sources === null ? null : await loading.values(order.sources);
  const groups = Math.ceil(order.chunks / order.groupChunks);
  const sym = zerosAreMiddle(weight, zeroWords);
  const format = { BITS: bits, [`BITS_${bits}`]: true, SYM: sym };

  const parts: WeightPart[] = [];
  for (const { first, rows } of loading.parts(outFeatures, order.chunks * bits * 4)) {
    const quads = Math.ceil(rows / 4);
    const codes = await loading.permanent(4 * quads * order.chunks * bits * 4);
    const quadScales = await loading.permanent(quads * groups * 8);
    const quadZeros = sym ? null : await loading.permanent(quads * groups * 4);
    const rawRowBytes = 4 * wordRows + (2 + bits / 8) * sourceGroups;
    for (const slab of loading.slabs(rows, rawRowBytes)) {
      const from = { first: first + slab.first, rows: slab.rows };
      const rawCodes = loading.raw(0, bytesOf(columns(qweight, wordRows, from)));
      await loading.repack(
        'repack_gptq',
        { BITS: bits, PERMUTED: channels !== null },
        { cols: slab.rows, firstRow: slab.first, chunks: order.chunks, inFeatures },
        [rawCodes, codes, ...(channels === null ? [] : [channels])],
        slab.rows * order.chunks,
      );
      const halves = Math.ceil(slab.rows / 2) * 2;
      const slabZeroWords = Math.ceil((slab.rows * bits) / 32);
      const buffers = [loading.raw(1, bytesOf(columns(scales, sourceGroups, from, halves))), quadScales];
      if (quadZeros !== null) {
        const words = { first: (from.first * bits) / 32, rows: slabZeroWords };
        buffers.push(loading.raw(2, bytesOf(columns(qzeros, sourceGroups, words))), quadZeros);
      }
      if (sources !== null) buffers.push(sources);
      await loading.repack(
        'repack_gptq_scales',
        { BITS: bits, SYM: sym, MAPPED: sources !== null },
        {
          cols: slab.rows,
          halves,
          firstQuad: slab.first / 4,
          groups,
          zeroWords: slabZeroWords,
          zeroOffset,
        },
        buffers,
        Math.ceil(slab.rows / 4) * groups,
      );
    }
    const buffers = [codes, quadScales, ...(quadZeros === null ? [] : [quadZeros])];
    parts.push({ first, rows, buffers, rowFactors: null, params: { groups, groupChunks: order.groupChunks } });
  }
  const bias = weight.bias === null ? null : await loading.values(weight.bias);
  const isPlain = channels === null && order.chunks * 32 === inFeatures;
  return {
    kind: 'gptq',
    outFeatures,
    inFeatures,
    bytes: loading.bytes,
    defines: format,
    chunks: order.chunks,
    pieces: bits === 8 ? 4 : 8,
    halves: HALVES[bits],
    input: isPlain ? { kind: 'plain' } : { kind: 'channels', channels },
    parts,
    joins: {
      key: '',
      appended: [4 * order.chunks * bits * 4, groups * 8, ...(sym ? [] : [groups * 4])].map((quadBytes, buffer) => ({
        buffer,
        bytes: Math.ceil(outFeatures / 4) * quadBytes,
      })),
    },
    bias,
  };
}

/** Columns of a matrix [height, width], one after another in rows of `width`, by default as many as there are. */
function columns<Values extends Int32Array | Uint16Array>(
  matrix: Values,
  height: number,
  { first, rows }: RowRange,
  width = rows,
): Values {
  const stride = matrix.length / height;
  const slab = new (matrix.constructor as new (length: number) => Values)(height * width);
  for (let row = 0; row < height; row++)
    slab.set(matrix.subarray(row * stride + first, row * stride + first + rows), row * width);
  return slab;
}

/** Whether every zero point is 2^(bits−1), as in symmetric checkpoints. */
function zerosAreMiddle({ outFeatures, bits, qzeros, zeroOffset }: GptqWeight, zeroWords: number): boolean {
  const middle = new Int32Array(zeroWords);
  for (let bit = 0; bit < outFeatures * bits; bit++)
    middle[bit >> 5]! |= (((2 ** (bits - 1) - zeroOffset) >> (bit % bits)) & 1) << (bit & 31);
  return qzeros.every((word, i) => word === middle[i % zeroWords]);
}
