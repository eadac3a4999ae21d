/** Many tokens by subgroup matrices, where the adapter has them: f16 products summed in f32, whatever the scales and the activations are. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { f32ToF16Array } from '../../core/formats/half.ts';
import type { Bnb4Weight, DenseWeight, LinearWeight } from '../../core/model/backend.ts';
import { referenceLinear } from '../../core/model/reference-weights.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { bnb4Of, denseOf, gaussians, gptqOf } from '../wasm/inputs.ts';
import { activation, relativeError } from '../wasm/oracle.ts';
import { openBackend, openSpace, place, readBack } from './gpu-under-test.ts';
import { LinearsUnderTest } from './linear-under-test.ts';

/** The bar for f16: both factors rounded to 11 bits err by about 3e-4. */
const F16_TOLERANCE = 2e-3;
const IN = 167;
const OUT = 67;

let space: Space;
let tested: LinearsUnderTest;
beforeAll(async () => {
  space = await openSpace({ precision: 'auto' });
  tested = new LinearsUnderTest(space);
});
afterAll(async () => {
  await space.gpu.destroy();
});

/** The outputs of each row by themselves, so that a large row does not hide a small one. */
function worstRow(y: Float32Array, want: Float32Array, outFeatures: number): number {
  const column = (values: Float32Array, row: number) => values.filter((_, i) => i % outFeatures === row);
  return Math.max(
    ...Array.from({ length: outFeatures }, (_, row) => {
      const wanted = column(want, row);
      return wanted.every((value) => value === 0) ? 0 : relativeError(column(y, row), wanted);
    }),
  );
}

async function rowError(weight: LinearWeight, x: Float32Array): Promise<number> {
  const loaded = await tested.linears.load(weight, 'weight');
  const tokens = x.length / weight.inFeatures;
  expect(tested.linears.kernelNames(loaded, tokens)[0]).toContain('MATRICES');
  return worstRow(await tested.product(weight, x), referenceLinear(x, tokens, weight), weight.outFeatures);
}

const values = gaussians(OUT * IN, 1);
const bias = gaussians(OUT, 2);
const KINDS: [string, LinearWeight][] = [
  ...([2, 3, 8] as const).map((bits): [string, LinearWeight] => [
    `gptq of ${bits} bits`,
    gptqOf({ outFeatures: OUT, inFeatures: IN, groupSize: 64, bits, sym: bits === 2, bias: true }),
  ]),
  [
    'gptq by activation, in groups of 11',
    gptqOf({ outFeatures: OUT, inFeatures: IN, groupSize: 11, sym: false, actOrder: true, bias: true }),
  ],
  ['symmetric gptq', gptqOf({ outFeatures: OUT, inFeatures: 160, groupSize: 32, sym: true })],
  ['nested nf4', bnb4Of(gaussians(OUT * 160, 1), 160, { quantType: 'nf4', blockSize: 32, nested: true, bias })],
  ['fp4 in blocks across rows', bnb4Of(gaussians(OUT * 160, 1), 160, { quantType: 'fp4', blockSize: 64, bias })],
  ['nf4 in blocks anywhere', bnb4Of(values, IN, { quantType: 'nf4', blockSize: 64, bias })],
  ['dense f32', denseOf(values, IN, bias)],
  ['dense f16', halfOf(values, IN, 'f16')],
  ['dense bf16', halfOf(values, IN, 'bf16')],
];

function halfOf(floats: Float32Array, inFeatures: number, dtype: 'f16' | 'bf16'): DenseWeight {
  const bits =
    dtype === 'f16' ? f32ToF16Array(floats) : Uint16Array.from(new Uint32Array(floats.buffer), (word) => word >>> 16);
  return { ...denseOf(floats, inFeatures), dtype, bytes: new Uint8Array(bits.buffer) };
}

describe('linear by subgroup matrices', () => {
  beforeEach((context) => {
    context.skip(space.gpu.features.matrices === null, 'the adapter has no subgroup matrices of f16 summed in f32');
  });

  test('the trial at the first load passes', async () => {
    await tested.linears.load(denseOf(gaussians(64, 1), 8), 'weight');
    expect(tested.linears.matrices).toEqual({ kind: 'used', shape: space.gpu.features.matrices });
  });

  test('4 bits: every tile', async () => {
    const weight = gptqOf({ outFeatures: OUT, inFeatures: 160, groupSize: 64, sym: false, bias: true });
    expect(await tested.worstError(weight, [9, 16, 17, 33, 70])).toBeLessThan(F16_TOLERANCE);
  });

  test.each(KINDS)('%s', async (_, weight) => {
    expect(await rowError(weight, gaussians(17 * weight.inFeatures, 3))).toBeLessThan(F16_TOLERANCE);
  });

  test('few rows, few channels', async () => {
    for (const [outFeatures, inFeatures] of [
      [1, 8],
      [3, 33],
      [130, 37],
    ] as const) {
      const weight = gptqOf({ outFeatures, inFeatures, groupSize: 32, sym: false, bias: true });
      expect(await rowError(weight, gaussians(17 * inFeatures, 4))).toBeLessThan(F16_TOLERANCE);
    }
  });

  test('f16 scales from the smallest subnormal to the largest, each row by itself and within one', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 96, groupSize: 32, sym: true });
    weight.scales.set([0x0001, 0x03ff, 0x8001, 0x0400, 0x7bff, 0xfbff, 0x0013, 0x2c00], 0);
    weight.scales.copyWithin(8, 0, 8);
    weight.scales.copyWithin(16, 0, 8);
    expect(await rowError(weight, gaussians(17 * 96, 5))).toBeLessThan(F16_TOLERANCE);
    // 2^39 apart in one row: the larger decides what the sum is.
    weight.scales.set([0x7bff, 0x0001, 0x2c00, 0x7bff], 8);
    expect(await rowError(weight, gaussians(17 * 96, 6))).toBeLessThan(F16_TOLERANCE);
  });

  test('absmax and plain weights from 1e-30 to 1e30', async () => {
    for (const size of [1e-30, 1e-12, 1e6, 1e30]) {
      const scaled = gaussians(8 * 64, 7).map((value) => value * size);
      const packed: Bnb4Weight = bnb4Of(scaled, 64, { quantType: 'nf4', blockSize: 32 });
      for (const weight of [packed, denseOf(scaled, 64)])
        expect(await rowError(weight, gaussians(17 * 64, 8))).toBeLessThan(F16_TOLERANCE);
    }
  });

  test('8 bits, all codes at their ends over long rows: nothing overflows', async () => {
    const shape = { outFeatures: 8, inFeatures: 4096, groupSize: 4096, bits: 8, sym: false, zeroOffset: 0 } as const;
    const weight = gptqOf(shape);
    weight.qweight.fill(-1);
    weight.qzeros.fill(0);
    weight.scales.fill(0x7bff);
    expect(await rowError(weight, new Float32Array(17 * 4096).fill(65_504))).toBeLessThan(F16_TOLERANCE);
  });

  test('activations far from 1, and far apart within a token', async () => {
    const weight = gptqOf({ outFeatures: 16, inFeatures: 512, groupSize: 128, sym: false });
    for (const size of [1e-30, 1e-12, 1e6, 1e30]) {
      const x = gaussians(17 * 512, 9).map((value) => value * size);
      expect(await rowError(weight, x)).toBeLessThan(F16_TOLERANCE);
    }
    const spiked = gaussians(17 * 512, 10).map((value, i) => (i % 500 === 7 ? 5e3 * value : value));
    expect(await rowError(weight, spiked)).toBeLessThan(F16_TOLERANCE);
  });

  test('NaN and infinity are not hidden, and stay in their rows', async () => {
    const weight = gptqOf({ outFeatures: 8, inFeatures: 64, groupSize: 64, sym: true, bias: true });
    for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const x = gaussians(17 * 64, 6);
      x[5] = poison;
      x.fill(0, 64, 128);
      const y = await tested.product(weight, x);
      expect(y.subarray(0, 8).some(Number.isFinite)).toBe(false);
      expect(y.subarray(8, 16)).toEqual(weight.bias);
      expect(y.subarray(16).every(Number.isFinite)).toBe(true);
    }
    weight.scales[3] = 0x7c00;
    const y = await tested.product(weight, gaussians(17 * 64, 6));
    expect(y.every((value, i) => Number.isFinite(value) === (i % 8 !== 3))).toBe(true);
  });

  test('in parts, and with the channels shared between workgroups', async () => {
    const inParts = new LinearsUnderTest(space, { bindingBytes: 8 << 10 });
    const wide = gptqOf({ outFeatures: 131, inFeatures: 416, groupSize: 32, sym: false, bias: true });
    const loaded = await inParts.linears.load(wide, 'weight');
    expect(loaded.parts.length).toBeGreaterThan(2);
    expect(inParts.linears.kernelNames(loaded, 9)[0]).toContain('MATRICES');
    expect(await inParts.worstError(wide, [17])).toBeLessThan(F16_TOLERANCE);
    const long = gptqOf({ outFeatures: 40, inFeatures: 4096, groupSize: 128, sym: true, bias: true });
    const shared = await tested.linears.load(long, 'weight');
    expect(tested.linears.kernelNames(shared, 17).some((name) => name.startsWith('sum_shares'))).toBe(true);
    expect(await rowError(long, gaussians(17 * 4096, 3))).toBeLessThan(F16_TOLERANCE);
  });

  test('a gated pair gives f(gate) · up', async () => {
    const [gate, up] = [9, 10].map((seed) =>
      gptqOf({ outFeatures: OUT, inFeatures: 160, groupSize: 32, sym: false, seed }),
    ) as [LinearWeight, LinearWeight];
    const [onGate, onUp] = [await tested.linears.load(gate, 'gate'), await tested.linears.load(up, 'up')];
    const x = gaussians(17 * 160, 11);
    space.activations.begin();
    const y = await readBack(space, tested.linears.gated('silu', place(space, x, 160), onGate, onUp));
    const opened = referenceLinear(x, 17, gate);
    const wanted = referenceLinear(x, 17, up).map((value, i) => activation('silu', opened[i]!) * value);
    expect(relativeError(y, wanted)).toBeLessThan(2 * F16_TOLERANCE);
  });

  test('not when deterministic, and not when turned off', async () => {
    const weight = gptqOf({ outFeatures: 40, inFeatures: 64, groupSize: 32, sym: true });
    for (const options of [{ deterministic: true }, { matrices: 'none' }] as const) {
      const { linears } = new LinearsUnderTest(space, options);
      const loaded = await linears.load(weight, 'weight');
      expect(linears.kernelNames(loaded, 17).join()).not.toContain('MATRICES');
      expect(linears.matrices).toEqual({ kind: 'absent' });
    }
  });
});

describe('subgroup matrices that do not work', () => {
  /** Shapes that the adapter lacks: no driver has 4 × 4 × 4, and none has subgroups of 4 and 8 × 8 × 8. */
  test.each([
    ['refused by the driver', { M: 4, N: 4, K: 4, subgroupSize: 8 }],
    ['in subgroups of another size', { M: 8, N: 8, K: 8, subgroupSize: 4 }],
  ])('%s: they are turned off in one line, and products are right', async (_, shape) => {
    const lines: string[] = [];
    const broken = new LinearsUnderTest(space, { matrices: shape, log: (line) => lines.push(line) });
    const weight = gptqOf({ outFeatures: 40, inFeatures: 64, groupSize: 32, sym: true });
    expect(await broken.worstError(weight, [17])).toBeLessThan(F16_TOLERANCE);
    expect(await broken.worstError(weight, [9])).toBeLessThan(F16_TOLERANCE);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^subgroup matrices are not used: /);
    expect(broken.linears.matrices.kind).toBe('broken');
  });
});

describe('what a bench reports', () => {
  test.each(['auto', 'none'] as const)('names the variant, and the limit that it is held to: %s', async (matrices) => {
    const backend = await openBackend({ precision: 'auto', matrices });
    try {
      await backend.loadLinear(denseOf(gaussians(64, 1), 8), 'weight');
      const shape = matrices === 'none' ? null : backend.gpu.features.matrices;
      const { what, perSecond } = await backend.measureMatmul();
      expect(perSecond).toBeGreaterThan(0);
      if (shape === null) {
        expect(backend.device).toContain('no subgroup matrices');
        expect(what).toContain('outside matrix units');
      } else {
        expect(backend.device).toContain(`subgroup matrices of ${shape.M}x${shape.N}x${shape.K}`);
        expect(what).toContain('f16 subgroup matrices');
      }
    } finally {
      await backend.dispose();
    }
  });
});
