import { describe, expect, test } from 'vitest';
import { readBnb4Weight, readInt8Weight } from '../../../core/formats/bitsandbytes.ts';
import {
  bitsandbytesConfig,
  bitsandbytesTensors,
  type WrittenTensor,
} from '../../../core/formats/bitsandbytes-writer.ts';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { type CheckpointFiles, openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import { readQuantizationConfig } from '../../../core/formats/quantization-config.ts';
import { type BitsandbytesMethod, quantizeLinear } from '../../../core/formats/quantize-linear.ts';
import { planSafetensors } from '../../../core/formats/safetensors-writer.ts';
import type { Bnb4Weight, Int8Weight } from '../../../core/model/backend.ts';
import { tableOf } from './table-rows.ts';

/** Shapes whose last blocks are short, odd, or both. */
const SHAPES = [
  [64, 64],
  [3, 5],
  [1, 1],
  [17, 129],
  [260, 64],
] as const;

function quantized(
  method: BitsandbytesMethod,
  outFeatures: number,
  inFeatures: number,
): Promise<Bnb4Weight | Int8Weight> {
  const values = Float32Array.from({ length: outFeatures * inFeatures }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 13)));
  return quantizeLinear(tableOf(values, outFeatures).table, null, method);
}

async function asCheckpoint(tensors: WrittenTensor[]): Promise<CheckpointFiles> {
  const plan = planSafetensors(tensors, { format: 'pt' }, 'written');
  const file = new Uint8Array(plan.totalBytes);
  file.set(plan.header);
  let at = plan.header.length;
  for (const { name, bytes } of plan.tensors) {
    file.set(tensors.find((tensor) => tensor.name === name)!.bytes, at);
    at += bytes as unknown as number;
  }
  const lone = new MemorySource('written', file);
  return openCheckpoint({ name: 'written', lone, open: async () => null });
}

describe('a quantized linear that was written', () => {
  test.for(SHAPES)('[%i, %i] NF4 and FP4 are read back bit for bit', async ([outFeatures, inFeatures]) => {
    for (const method of ['nf4', 'fp4'] as const) {
      const weight = await quantized(method, outFeatures, inFeatures);
      const checkpoint = await asCheckpoint(bitsandbytesTensors('layer.q', weight as Bnb4Weight, 'f16'));
      expect(await readBnb4Weight(checkpoint, 'layer.q')).toEqual(weight);
    }
  });

  test.for(SHAPES)('[%i, %i] int8 too', async ([outFeatures, inFeatures]) => {
    const weight = (await quantized('int8', outFeatures, inFeatures)) as Int8Weight;
    const checkpoint = await asCheckpoint(bitsandbytesTensors('layer.q', weight, 'bf16'));
    expect(await readInt8Weight(checkpoint, 'layer.q', weight.threshold)).toEqual(weight);
  });

  test.for(['int8', 'nf4', 'fp4'] as const)('%s: its config is read as what it is', async (method) => {
    const config = { quantization_config: bitsandbytesConfig(method) };
    const source = new MemorySource('config.json', new TextEncoder().encode(JSON.stringify(config)));
    const files = { name: 'm', open: async (path: string) => (path === 'config.json' ? source : null) };
    expect(await readQuantizationConfig(files)).toEqual({ kind: 'bitsandbytes-checkpoint', method, threshold: 6 });
  });
});
