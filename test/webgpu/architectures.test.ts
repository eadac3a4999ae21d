/** Every architecture on WebGPU gives the logits of transformers. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Gpu } from '../../gpu-worker/webgpu/gpu.ts';
import { FIXTURES, logitsOf, openFixture, relativeError } from '../core/model/fixtures.ts';
import { GPTQ_CONFIG, gptqCheckpoint } from '../core/model/quantized.ts';
import { backendOn, openGpu } from './gpu-under-test.ts';

/** The bar for whole models; f32 sums in another order stay far below. */
const TOLERANCE = 2e-3;

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(async () => {
  await gpu.destroy();
});

describe('on WebGPU in f32', () => {
  test.each(FIXTURES)('%s, short and past its window or original context', async (name) => {
    const fixture = await openFixture(name);
    for (const { ids, logits } of [fixture.golden.short, fixture.golden.long]) {
      const got = await logitsOf(fixture, ids, { backend: backendOn(gpu) });
      expect(relativeError(got, logits)).toBeLessThan(TOLERANCE);
    }
  });

  test.each(['llama', 'gemma2', 'falcon-40b', 'opt'] as const)(
    '%s in runs of seven and token by token',
    async (name) => {
      const fixture = await openFixture(name);
      const { ids, logits } = fixture.golden.long;
      for (const runTokens of [7, 1]) {
        const got = await logitsOf(fixture, ids, { backend: backendOn(gpu), runTokens });
        expect(relativeError(got, logits)).toBeLessThan(TOLERANCE);
      }
    },
  );

  test.each(['llama', 'phi3', 'falcon-rw', 'qwen2'] as const)('%s from GPTQ, as the reference', async (name) => {
    const fixture = await openFixture(name);
    const packed = { config: fixture.config, checkpoint: await gptqCheckpoint(fixture) };
    const quantization = { kind: 'gptq', config: GPTQ_CONFIG } as const;
    const { ids } = fixture.golden.long;
    const expected = await logitsOf(packed, ids, { quantization });
    const got = await logitsOf(packed, ids, { quantization, backend: backendOn(gpu) });
    expect(relativeError(got, expected)).toBeLessThan(TOLERANCE);
  });
});

describe('on WebGPU, deterministic', () => {
  test.each(['llama', 'gemma3', 'falcon-rw', 'opt'] as const)(
    '%s gives the same bits whole, in runs of seven and token by token',
    async (name) => {
      const fixture = await openFixture(name);
      const { ids } = fixture.golden.long;
      const run = async (runTokens: number) =>
        logitsOf(fixture, ids, { backend: backendOn(gpu, { deterministic: true }), runTokens });
      const whole = await run(ids.length);
      expect(await run(7)).toEqual(whole);
      expect(await run(1)).toEqual(whole);
    },
  );
});
