/** The dense linear and the embedding table in f32, f16 and bf16. */
import { describe, expect, test } from 'vitest';
import type { DenseWeight } from '../../core/model/backend.ts';
import { denseOf, gaussians, ROW_COUNTS, runLinear, tokensBatch } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { halfToNumber, linear, random, relativeError } from './oracle.ts';

/** f32 products summed in four lanes; relative error grows with √in at most, 2048 · 2^-24 is far above it. */
const TOLERANCE = 1e-5;

/** Random f16 bits of either sign, subnormals among them, and their values. */
function halves(outFeatures: number, inFeatures: number): { weight: DenseWeight; values: Float64Array } {
  const next = random(outFeatures * inFeatures);
  const bits = new Uint16Array(outFeatures * inFeatures).map(() => (next() < 0.5 ? 0x8000 : 0) | (next() * 0x3c00));
  bits.set([0x0001, 0x8001, 0x03ff, 0x0000, 0x8000].slice(0, bits.length));
  return {
    weight: { kind: 'dense', outFeatures, inFeatures, dtype: 'f16', bytes: new Uint8Array(bits.buffer), bias: null },
    values: Float64Array.from(bits, halfToNumber),
  };
}

function brainFloats(outFeatures: number, inFeatures: number): { weight: DenseWeight; values: Float64Array } {
  const wide = new Uint32Array(gaussians(outFeatures * inFeatures, 8).buffer).map((bits) => bits & 0xffff0000);
  const bits = Uint16Array.from(wide, (word) => word >>> 16);
  return {
    weight: { kind: 'dense', outFeatures, inFeatures, dtype: 'bf16', bytes: new Uint8Array(bits.buffer), bias: null },
    values: Float64Array.from(new Float32Array(wide.buffer)),
  };
}

describe.each(VARIANTS)('dense linear, %s', (variant) => {
  const shapes = [
    [1, 1],
    [3, 5],
    [4, 64],
    [9, 66],
    [32, 172],
    [5, 2047],
  ] as const;

  test.each(shapes)('[%i, %i] in f32, f16 and bf16, with and without bias', async (outFeatures, inFeatures) => {
    const backend = await backendOf(variant);
    const x = gaussians(3 * inFeatures, 1);
    const bias = gaussians(outFeatures, 2);
    const f32 = gaussians(outFeatures * inFeatures, 3);
    const cases = [
      { weight: denseOf(f32, inFeatures), values: Float64Array.from(f32) },
      halves(outFeatures, inFeatures),
      brainFloats(outFeatures, inFeatures),
    ];
    for (const { weight, values } of cases)
      for (const withBias of [null, bias]) {
        const y = await runLinear(backend, { ...weight, bias: withBias }, x);
        expect(relativeError(y, linear(x, values, withBias, inFeatures))).toBeLessThan(TOLERANCE);
      }
  });

  test.each(ROW_COUNTS)('%i rows', async (rows) => {
    const { weight, values } = halves(10, 70);
    const x = gaussians(rows * 70, rows);
    const y = await runLinear(await backendOf(variant), weight, x);
    expect(relativeError(y, linear(x, values, null, 70))).toBeLessThan(TOLERANCE);
  });

  test('bytes that do not start at a multiple of the value size load as well', async () => {
    const { weight, values } = halves(4, 6);
    const shifted = new Uint8Array(weight.bytes.length + 1);
    shifted.set(weight.bytes, 1);
    const x = gaussians(6, 1);
    const y = await runLinear(await backendOf(variant), { ...weight, bytes: shifted.subarray(1) }, x);
    expect(relativeError(y, linear(x, values, null, 6))).toBeLessThan(TOLERANCE);
  });

  test('embed returns rows of the table, in any order and repeated: exactly, or times a scale', async () => {
    const backend = await backendOf(variant);
    const floats = gaussians(7 * 13, 4);
    const tables = [
      halves(7, 13),
      brainFloats(7, 13),
      { weight: denseOf(floats, 13), values: Float64Array.from(floats) },
    ];
    for (const { weight, values } of tables)
      for (const scale of [1, Math.fround(Math.sqrt(13))]) {
        const table = await backend.loadLinear(weight, 'table');
        const ids = [6, 0, 3, 3, 1];
        backend.begin(tokensBatch(2));
        const y = await backend.read(backend.embed(table, Int32Array.from(ids), scale));
        const want = ids.flatMap((id) => [...values.subarray(id * 13, (id + 1) * 13)]);
        expect([...y]).toEqual(want.map((value) => Math.fround(value * scale)));
      }
  });
});
