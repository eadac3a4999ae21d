/** GPTQ: a linear's packed weight from a checkpoint, its tensors checked against each other. */
import type { GptqWeight } from '../model/backend.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import type { GptqConfig } from './gptq-config.ts';
import { field } from './gptq-packing.ts';
import { TensorReader } from './tensor-reader.ts';

export type { GptqConfig } from './gptq-config.ts';
export { dequantizeGptq, type GptqIntegers, packGptq, unpackGptq } from './gptq-packing.ts';

/**
 * Reads prefix.qweight [in·bits/32, out] i32, .qzeros [groups, out·bits/32] i32, .scales [groups, out] and, where present,
 * .g_idx [in] i32 and .bias [out]. Throws `file_invalid` with the tensor and the rule it breaks.
 */
export async function readGptqWeight(
  checkpoint: CheckpointFiles,
  prefix: string,
  config: GptqConfig,
): Promise<GptqWeight> {
  const { bits } = config;
  const tensors = new TensorReader(checkpoint, prefix, 'qweight, bits and group_size ask');
  const packed = tensors.entry(
    'qweight',
    ['I32'],
    'is missing: the config says gptq; quantize the model first or list the module in modules_to_not_convert',
  );
  const [words, outFeatures] = tensors.matrix('qweight', packed);
  if ((words * 32) % bits !== 0 || (outFeatures * bits) % 32 !== 0)
    throw tensors.invalid('qweight', `[${words}, ${outFeatures}] i32 does not hold whole rows of ${bits}-bit values`);
  const inFeatures = (words * 32) / bits;
  if (inFeatures === 0 || outFeatures === 0) throw tensors.invalid('qweight', `[${words}, ${outFeatures}] is empty`);
  const groupSize = Math.min(config.groupSize ?? inFeatures, inFeatures);
  const groups = Math.ceil(inFeatures / groupSize);

  const qweight = await tensors.int32('qweight', [words, outFeatures]);
  const qzeros = await tensors.int32('qzeros', [groups, (outFeatures * bits) / 32]);
  const scales = await tensors.half('scales', [groups, outFeatures]);
  const gIdx = tensors.has('g_idx') ? await tensors.int32('g_idx', [inFeatures]) : null;
  const bias = tensors.has('bias') ? await tensors.float('bias', [outFeatures]) : null;
  const weight: GptqWeight = {
    kind: 'gptq',
    outFeatures,
    inFeatures,
    bits,
    groupSize,
    qweight,
    qzeros,
    zeroOffset: config.zeroOffset,
    scales,
    gIdx: gIdx === null ? null : checkGroups(gIdx, groupSize, groups, config, tensors),
    bias,
  };
  return config.symmetric ? repairSwappedZeros(weight) : weight;
}

/** null when every channel is in group k ÷ groupSize. */
function checkGroups(
  gIdx: Int32Array,
  groupSize: number,
  groups: number,
  config: GptqConfig,
  tensors: TensorReader,
): Int32Array | null {
  const outside = gIdx.findIndex((group) => group < 0 || group >= groups);
  if (outside >= 0)
    throw tensors.invalid('g_idx', `puts channel ${outside} into group ${gIdx[outside]}; there are ${groups}`);
  if (gIdx.every((group, k) => group === Math.floor(k / groupSize))) return null;
  // Writers without act-order leave zeros here; text-generation-inference takes them for "no g_idx" as well.
  if (!config.actOrder && gIdx.every((group) => group === 0)) return null;
  return gIdx;
}

/** What AutoGPTQ and GPTQModel add to and subtract from a triple of 3-bit words to change formats: the first and last are swapped. */
const SWAPPED_3_BIT_ONES = [0x24924924, 0x92492492, 0x49249249];

/**
 * 3-bit "gptq" files that GPTQModel converted from "gptq_v2" have zeros only its own wrong constants undo. A symmetric weight's zeros
 * must all be 4, so there the mistake is seen and undone; the result has zeroOffset 0.
 */
function repairSwappedZeros(weight: GptqWeight): GptqWeight {
  if (weight.bits !== 3 || weight.zeroOffset !== 1) return weight;
  const allAre = (zeros: Int32Array, stored: number) => {
    for (let i = 0; i < (zeros.length * 32) / 3; i++) if (field(zeros, 0, 1, i, 3) !== stored) return false;
    return true;
  };
  if (allAre(weight.qzeros, 3)) return weight;
  const repaired = weight.qzeros.map((stored, i) => stored + SWAPPED_3_BIT_ONES[i % 3]!);
  return allAre(repaired, 4) ? { ...weight, qzeros: repaired, zeroOffset: 0 } : weight;
}
