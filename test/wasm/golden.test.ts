/** Layers that AutoGPTQ quantized: y = x · Wᵀ + bias as its torch path computed it. Skipped where the files are not at hand. */
import { readFileSync } from 'node:fs';
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
  const inFeatures = shape('qweight')[0]! * 8;
  const groupSize = Number(tensors.metadata.group_size);
  const weight: GptqWeight = {
    kind: 'gptq',
    outFeatures: shape('qweight')[1]!,
    inFeatures,
    bits: 4,
    groupSize: groupSize === -1 ? inFeatures : groupSize,
    qweight: new Int32Array(await buffer('qweight')),
    qzeros: new Int32Array(await buffer('qzeros')),
    zeroOffset: 1,
    scales: new Uint16Array(await buffer('scales')),
    gIdx: null,
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
  const files = ['w4-g128-sym.safetensors', 'w4-gall-sym.safetensors'];
  test.skipIf(folder === null).each(files)('%s: y within 1%', async (file) => {
    const { weight, x, floats } = await readLayer(file);
    // AutoGPTQ rounds each dequantised weight to f16: half a step is 2^-11 of it at most.
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
