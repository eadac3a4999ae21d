/** PackedTensors: a quantized linear as the tensors of a checkpoint. */
import { groupsOf } from '../../core/formats/gptq-packing.ts';
import type { Dtype } from '../../core/formats/safetensors-header.ts';
import type { GptqWeight } from '../../core/model/backend.ts';

export interface NamedTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  values: Int32Array | Uint16Array;
}

/** qweight, qzeros, scales and g_idx, as AutoGPTQ lays them out. `prefix` is the linear's; empty for a lone one. */
export function packedTensorsOf(prefix: string, weight: GptqWeight): NamedTensor[] {
  const { outFeatures, inFeatures, bits, groupSize, qweight, qzeros, scales, gIdx } = weight;
  const name = (part: string) => (prefix === '' ? part : `${prefix}.${part}`);
  const groups = groupsOf(weight);
  const channels = gIdx ?? Int32Array.from({ length: inFeatures }, (_, k) => Math.floor(k / groupSize));
  return [
    { name: name('qweight'), dtype: 'I32', shape: [(inFeatures * bits) / 32, outFeatures], values: qweight },
    { name: name('qzeros'), dtype: 'I32', shape: [groups, (outFeatures * bits) / 32], values: qzeros },
    { name: name('scales'), dtype: 'F16', shape: [groups, outFeatures], values: scales },
    { name: name('g_idx'), dtype: 'I32', shape: [inFeatures], values: channels },
  ];
}

export function bytesOfTensor({ values }: NamedTensor): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
