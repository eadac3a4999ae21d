import { describe, expect, test } from 'vitest';
import { quantizeLinear } from '../../../core/formats/quantize-linear.ts';
import { tableOf } from '../formats/table-rows.ts';
import {
  FIXTURES,
  type Fixture,
  largestDifference,
  logitsOf,
  openFixture,
  type RunnableBackend,
  relativeError,
} from './fixtures.ts';
import { dequantisedCheckpoint, GPTQ_CONFIG, gptqCheckpoint, roundToNearest } from './quantized.ts';

/** The reference multiplies by the same dequantised numbers; only the place where they are rounded to f32 may differ. */
const REFERENCE_TOLERANCE = 1e-3;
/** wasm rounds activations to int8 for each packed product (about 0.4% each), and two or three layers add up. The acceptance asks for this. */
const WASM_TOLERANCE = 3e-2;

const quantized4 = (method: 'nf4' | 'fp4') => (values: Float32Array, outFeatures: number) =>
  quantizeLinear(tableOf(values.slice(), outFeatures).table, null, method);

async function plainLogits(fixture: Fixture, quantize: Parameters<typeof dequantisedCheckpoint>[1]) {
  const checkpoint = await dequantisedCheckpoint(fixture, quantize);
  return logitsOf({ ...fixture, checkpoint }, fixture.golden.long.ids);
}

/** Fails unless `got` is as near `plain` as the backend must be. */
function expectNear(backend: RunnableBackend, got: Float32Array, plain: Float32Array): void {
  if (backend === 'reference') expect(largestDifference(got, plain)).toBeLessThan(REFERENCE_TOLERANCE);
  else expect(relativeError(got, plain)).toBeLessThan(WASM_TOLERANCE);
}

describe.each(['reference', 'wasm'] as const)('on %s', (backend) => {
  test.each(FIXTURES)('%s in GPTQ’s layout is the dequantised model', async (name) => {
    const fixture = await openFixture(name);
    const packed = { ...fixture, checkpoint: await gptqCheckpoint(fixture) };
    const quantization = { kind: 'gptq', config: GPTQ_CONFIG } as const;
    const got = await logitsOf(packed, fixture.golden.long.ids, { quantization, backend });
    expectNear(backend, got, await plainLogits(fixture, roundToNearest));
  });

  test.each(FIXTURES.flatMap((name) => [[name, 'nf4'] as const, [name, 'fp4'] as const]))(
    '%s quantized to %s on load is the dequantised model',
    async (name, method) => {
      const fixture = await openFixture(name);
      const quantization = { kind: 'bitsandbytes', method } as const;
      const got = await logitsOf(fixture, fixture.golden.long.ids, { quantization, backend });
      expectNear(backend, got, await plainLogits(fixture, quantized4(method)));
    },
  );

  test.each(FIXTURES)('%s quantized to int8 on load is near what it must be', async (name) => {
    const fixture = await openFixture(name);
    const { ids, logits } = fixture.golden.long;
    const quantization = { kind: 'bitsandbytes', method: 'int8' } as const;
    const onReference = await logitsOf(fixture, ids, { quantization });
    // The plain model on reference: weights and activations of 8 bits are each within 0.4% of their row's largest.
    if (backend === 'reference') expect(relativeError(onReference, logits)).toBeLessThan(0.05);
    // The reference's own integers on wasm.
    else expectNear(backend, await logitsOf(fixture, ids, { quantization, backend }), onReference);
  });
});
