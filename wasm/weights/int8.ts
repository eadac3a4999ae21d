/** Int8: the rows of LLM.int8(), their bytes in the kernels' order. */

import { NibbleError } from '../../core/errors.ts';
import type { Int8Weight, Linear } from '../../core/model/backend.ts';
import type { KernelMemory } from '../memory.ts';
import { expectLength } from '../tensors.ts';
import { OCTET_WORDS, putOctet } from './octets.ts';
import { placeBias } from './parts.ts';

/** 128 · 127 · this many channels stay within 31 bits: one exact integer sum a row. */
const MAX_IN_FEATURES = 131_072;

export interface Int8Linear extends Linear {
  kind: 'int8';
  memory: KernelMemory;
  /** [blocks, octets, 2, 8 rows] u32, a byte is a value + 128 */
  q: number;
  /** [blocks·8] f32, the row's absmax / 127 */
  scales: number;
  /** [blocks·8] f32, zeros without a bias */
  bias: number;
  octets: number;
  /** Infinity: no outliers are taken out. */
  threshold: number;
}

export function loadInt8(memory: KernelMemory, weight: Int8Weight, label: string): Int8Linear {
  const { outFeatures, inFeatures, values, rowAbsmax, threshold } = weight;
  expectLength(label, 'values', values.length, outFeatures * inFeatures);
  expectLength(label, 'rowAbsmax', rowAbsmax.length, outFeatures);
  if (inFeatures > MAX_IN_FEATURES)
    throw new NibbleError({
      code: 'model_unsupported',
      file: label,
      option: `in_features=${inFeatures}`,
      reason: `the wasm backend sums at most ${MAX_IN_FEATURES} int8 products exactly`,
    });
  const blocks = Math.ceil(outFeatures / 8);
  const octets = Math.ceil(inFeatures / 8);
  const words = blocks * octets * OCTET_WORDS[8];
  const q = memory.permanent(words * 4, label);
  const target = memory.u32(q, words);
  // Channels beyond the row are 0 + 128 or plain 0: the activations there are 0.
  const padded = new Uint8Array(octets * 8);
  for (let row = 0; row < outFeatures; row++) {
    const start = row * inFeatures;
    for (let k = 0; k < inFeatures; k++) padded[k] = values[start + k]! + 128;
    const four = (at: number) =>
      padded[at]! | (padded[at + 1]! << 8) | (padded[at + 2]! << 16) | (padded[at + 3]! << 24);
    for (let octet = 0; octet < octets; octet++)
      putOctet(
        8,
        target,
        ((row >> 3) * octets + octet) * OCTET_WORDS[8],
        row & 7,
        four(octet * 8),
        four(octet * 8 + 4),
      );
  }
  const scales = memory.permanent(blocks * 32, label);
  memory.f32(scales, outFeatures).set(rowAbsmax.map((absmax) => absmax / 127));
  return {
    kind: 'int8',
    memory,
    outFeatures,
    inFeatures,
    bytes: words * 4 + blocks * 64,
    q,
    scales,
    bias: placeBias(memory, weight.bias, blocks * 8, label),
    octets,
    threshold: threshold > 0 ? threshold : Number.POSITIVE_INFINITY,
  };
}
