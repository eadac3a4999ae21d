/** Weights that are multiplied together: q, k and v as one dispatch, gate and up as one. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LinearWeight } from '../../core/model/backend.ts';
import { referenceLinear } from '../../core/model/reference-weights.ts';
import type { LinearsOptions } from '../../gpu-worker/webgpu/linears.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import type { GpuLinear } from '../../gpu-worker/webgpu/weights/gpu-linear.ts';
import { bnb4Of, denseOf, gaussians, gptqOf, int8Of } from '../wasm/inputs.ts';
import { activation, relativeError } from '../wasm/oracle.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest } from './linear-under-test.ts';

const IN = 416;
const F16_TOLERANCE = 2e-3;
/** maxStorageBuffersPerShaderStage of every adapter. */
const PROMISED_BUFFERS = 8;
/** Outputs of the three, whole quads. */
const WIDTHS = [68, 20, 36] as const;

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

/** A weight of each kind for a width; the same seed gives the same order of channels. */
const KINDS: [string, (outFeatures: number, seed: number) => LinearWeight][] = [
  ['gptq', (outFeatures, seed) => gptqOf({ outFeatures, inFeatures: IN, groupSize: 32, sym: false, bias: true, seed })],
  [
    'gptq of 3 bits, padded groups',
    (outFeatures, seed) => gptqOf({ outFeatures, inFeatures: IN, groupSize: 72, bits: 3, sym: true, seed }),
  ],
  ['nf4', (outFeatures, seed) => bnb4With(outFeatures, seed, false)],
  ['nested nf4', (outFeatures, seed) => bnb4With(outFeatures, seed, true)],
  ['int8', (outFeatures, seed) => int8Of(gaussians(outFeatures * IN, seed), IN, 2, gaussians(outFeatures, 2))],
  ['dense', (outFeatures, seed) => denseOf(gaussians(outFeatures * IN, seed), IN, gaussians(outFeatures, 2))],
];

function bnb4With(outFeatures: number, seed: number, nested: boolean): LinearWeight {
  const size = seed * 0.3;
  const values = gaussians(outFeatures * IN, seed).map((value) => value * size);
  const weight = bnb4Of(values, IN, { quantType: 'nf4', blockSize: 32, nested, bias: gaussians(outFeatures, 2) });
  // Another offset for each, as each weight's own mean would be.
  if (weight.absmax.kind === 'nested') weight.absmax.offset += seed / 16;
  return weight;
}

async function joined(weights: readonly LinearWeight[], options: Partial<LinearsOptions> = {}, on = space) {
  const { linears } = new LinearsUnderTest(on, options);
  const loaded: GpuLinear[] = [];
  for (const [i, weight] of weights.entries()) loaded.push(await linears.load(weight, `weight ${i}`));
  await linears.join(loaded);
  return { linears, loaded };
}

/** Files of the kernels that are dispatched meanwhile. */
function dispatched({ gpu }: Space, run: () => void): string[] {
  const files: string[] = [];
  const { dispatch } = gpu;
  gpu.dispatch = (kernel, ...rest) => {
    files.push(kernel.name.split('(')[0]!);
    dispatch.call(gpu, kernel, ...rest);
  };
  try {
    run();
  } finally {
    // The class's own method shows again.
    Reflect.deleteProperty(gpu, 'dispatch');
  }
  return files;
}

async function expectProducts(
  { linears, loaded }: Awaited<ReturnType<typeof joined>>,
  weights: readonly LinearWeight[],
  tokens: number,
  tolerance = F32_TOLERANCE,
  on = space,
): Promise<string[]> {
  const x = gaussians(tokens * IN, tokens);
  on.activations.begin();
  const placed = place(on, x, IN);
  let ys: ReturnType<typeof linears.run> = [];
  const files = dispatched(on, () => {
    ys = linears.run(placed, loaded);
  });
  for (const [i, weight] of weights.entries())
    expect(relativeError(await readBack(on, ys[i]!), referenceLinear(x, tokens, weight))).toBeLessThan(tolerance);
  return files;
}

describe('q, k and v', () => {
  test.each(KINDS)('%s: one dispatch gives each its own output', async (_, make) => {
    const weights = WIDTHS.map((width, i) => make(width, i + 1));
    const together = await joined(weights);
    for (const tokens of [1, 3, 17]) {
      const files = await expectProducts(together, weights, tokens);
      expect(files.filter((file) => file.startsWith('linear_'))).toHaveLength(1);
    }
  });

  test('by activation: weights of one order of channels are joined, of two they are not', async () => {
    const ordered = (outFeatures: number, seed: number) => {
      const shape = { outFeatures, inFeatures: IN, groupSize: 32, sym: false, bias: true } as const;
      const { gIdx } = gptqOf({ ...shape, outFeatures: 4, actOrder: true, seed });
      return { ...gptqOf({ ...shape, seed: outFeatures }), gIdx };
    };
    for (const [seeds, linears] of [
      [[1, 1], 1],
      [[1, 2], 2],
    ] as const) {
      const weights = [ordered(68, seeds[0]), ordered(20, seeds[1])];
      const files = await expectProducts(await joined(weights), weights, 1);
      expect(files.filter((file) => file.startsWith('linear_'))).toHaveLength(linears);
    }
  });

  test.each(KINDS)('%s: as many buffers as WebGPU promises are enough, joined or not', async (_, make) => {
    const weights = WIDTHS.map((width, i) => make(width, i + 1));
    const together = await joined(weights, { storageBuffers: PROMISED_BUFFERS });
    const { dispatch } = space.gpu;
    let most = 0;
    for (const tokens of [1, 17]) {
      // Below `dispatched`, which takes both away.
      space.gpu.dispatch = (kernel, params, buffers, ...groups) => {
        most = Math.max(most, buffers.length);
        dispatch.call(space.gpu, kernel, params, buffers, ...groups);
      };
      await expectProducts(together, weights, tokens);
    }
    expect(most).toBeLessThanOrEqual(PROMISED_BUFFERS);
  });

  test('long rows, whose channels are shared between workgroups', async () => {
    const weights = WIDTHS.map((outFeatures, seed) =>
      gptqOf({ outFeatures, inFeatures: 4096, groupSize: 128, sym: true, bias: true, seed: seed + 1 }),
    );
    const { linears, loaded } = await joined(weights);
    const x = gaussians(17 * 4096, 3);
    space.activations.begin();
    const ys = linears.run(place(space, x, 4096), loaded);
    for (const [i, weight] of weights.entries())
      expect(relativeError(await readBack(space, ys[i]!), referenceLinear(x, 17, weight))).toBeLessThan(F32_TOLERANCE);
  });

  test('one of them alone, and in another order, is what it was', async () => {
    const weights = WIDTHS.map((width, i) => KINDS[0]![1](width, i + 1));
    const { linears, loaded } = await joined(weights);
    const x = gaussians(3 * IN, 5);
    space.activations.begin();
    const [key, query] = linears.run(place(space, x, IN), [loaded[1]!, loaded[0]!]);
    for (const [y, weight] of [
      [key!, weights[1]!],
      [query!, weights[0]!],
    ] as const)
      expect(relativeError(await readBack(space, y), referenceLinear(x, 3, weight))).toBeLessThan(F32_TOLERANCE);
  });

  test('weights that do not go together stay apart: kinds, formats, rows that are no whole quads, too large for a binding', async () => {
    const plain = (outFeatures: number, sym = false) =>
      gptqOf({ outFeatures, inFeatures: IN, groupSize: 32, sym, bias: true });
    const cases: [LinearWeight[], Partial<LinearsOptions>][] = [
      [[plain(68), KINDS[5]![1](20, 1)], {}],
      [[plain(68), plain(20, true)], {}],
      [[plain(67), plain(20)], {}],
      [[plain(68), plain(20)], { bindingBytes: 16 << 10 }],
    ];
    for (const [weights, options] of cases) {
      const files = await expectProducts(await joined(weights, options), weights, 3);
      expect(files.filter((file) => file.startsWith('linear_')).length).toBeGreaterThan(1);
    }
  });
});

describe('gate and up', () => {
  test.each(KINDS)('%s: one dispatch for few tokens', async (_, make) => {
    const [gate, up] = [make(68, 3), make(68, 4)];
    const { linears, loaded } = await joined([gate, up]);
    for (const tokens of [1, 3, 17]) {
      const x = gaussians(tokens * IN, tokens);
      space.activations.begin();
      const placed = place(space, x, IN);
      let y = placed;
      const files = dispatched(space, () => {
        y = linears.gated('silu', placed, loaded[0]!, loaded[1]!);
      });
      const opened = referenceLinear(x, tokens, gate);
      const wanted = referenceLinear(x, tokens, up).map((value, i) => activation('silu', opened[i]!) * value);
      expect(relativeError(await readBack(space, y), wanted)).toBeLessThan(2 * F32_TOLERANCE);
      const own = files.filter((file) => file.startsWith('linear_') || file === 'activate');
      expect(own).toHaveLength(tokens <= 8 ? 1 : 2);
    }
  });

  test('the other way round they are what they were', async () => {
    const [gate, up] = [KINDS[0]![1](68, 3), KINDS[0]![1](68, 4)];
    const { linears, loaded } = await joined([gate, up]);
    const x = gaussians(3 * IN, 5);
    space.activations.begin();
    const y = await readBack(space, linears.gated('silu', place(space, x, IN), loaded[1]!, loaded[0]!));
    const opened = referenceLinear(x, 3, up);
    const wanted = referenceLinear(x, 3, gate).map((value, i) => activation('silu', opened[i]!) * value);
    expect(relativeError(y, wanted)).toBeLessThan(2 * F32_TOLERANCE);
  });
});

describe('in f16', () => {
  test('few tokens and many, 4 bits and nested NF4', async (context) => {
    const on = await openSpace({ precision: 'auto' });
    try {
      context.skip(!on.gpu.features.f16, 'the adapter has no f16');
      for (const make of [KINDS[0]![1], KINDS[3]![1]]) {
        const weights = WIDTHS.map((width, i) => make(width, i + 1));
        const together = await joined(weights, {}, on);
        for (const tokens of [1, 17]) {
          const files = await expectProducts(together, weights, tokens, F16_TOLERANCE, on);
          expect(files.filter((file) => file.startsWith('linear_'))).toHaveLength(1);
        }
      }
    } finally {
      await on.gpu.destroy();
    }
  });
});
