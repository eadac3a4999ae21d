/** Layers that AutoGPTQ quantized: y = x · Wᵀ + bias as its torch path computed it. Skipped where the files are not at hand. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../core/formats/byte-source.ts';
import { openSafetensors } from '../../core/formats/safetensors.ts';
import type { GptqWeight } from '../../core/model/backend.ts';
import { sharedData } from '../shared-data.ts';
import { runLinear } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantize, halfToNumber, linear, relativeError } from './oracle.ts';

const folder = sharedData('gptq-golden');

async function readLayer(file: string) {
  const bytes = new Uint8Array(readFileSync(join(folder!, file)));
  const tensors = await openSafetensors(new MemorySource(file, bytes));
  const shape = (name: string) => tensors.tensors.get(name)!.shape;
  const buffer = async (name: string) => (await tensors.read(name)).slice().buffer;
  const halves = async (name: string) => Float32Array.from(new Uint16Array(await buffer(name)), halfToNumber);
  const bits = Number(tensors.metadata.bits ?? 4) as GptqWeight['bits'];
  const inFeatures = (shape('qweight')[0]! * 32) / bits;
  const groupSize = Number(tensors.metadata.group_size);
  const weight: GptqWeight = {
    kind: 'gptq',
    outFeatures: shape('qweight')[1]!,
    inFeatures,
    bits,
    groupSize: groupSize === -1 ? inFeatures : groupSize,
    qweight: new Int32Array(await buffer('qweight')),
    qzeros: new Int32Array(await buffer('qzeros')),
    zeroOffset: 1,
    scales: new Uint16Array(await buffer('scales')),
    gIdx: tensors.tensors.has('g_idx') ? new Int32Array(await buffer('g_idx')) : null,
    bias: tensors.tensors.has('bias') ? await halves('bias') : null,
  };
  return {
    weight,
    x: await halves('x'),
    tensors,
    halves,
    floats: async (name: string) => new Float32Array(await buffer(name)),
  };
}

describe.each(VARIANTS)('AutoGPTQ layers, %s', (variant) => {
  const files = readdirSync(folder ?? '.').filter((file) => /^w\d.*\.safetensors$/.test(file));
  test.skipIf(folder === null).each(files)('%s: y within 1%', async (file) => {
    const { weight, x, floats } = await readLayer(file);
    // `dequantised` came from the solver's f32 scales, which the file stores as f16: half a step is 2^-11 of one at most.
    expect(relativeError(dequantize(weight), await floats('dequantised'))).toBeLessThan(2 ** -11);
    const y = await runLinear(await backendOf(variant), weight, x);
    expect(relativeError(y, await floats('y'))).toBeLessThan(1e-2);
  });

  test.skipIf(folder === null)('autogptq-cuda-1024: its CUDA kernel agrees within 1%', async () => {
    const { weight, x, halves } = await readLayer('autogptq-cuda-1024.safetensors');
    const y = await runLinear(await backendOf(variant), weight, x);
    expect(relativeError(y, linear(x, dequantize(weight), null, weight.inFeatures))).toBeLessThan(1e-2);
    expect(relativeError(y, await halves('ref'))).toBeLessThan(1e-2);
  });
});
