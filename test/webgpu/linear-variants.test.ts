/** What holds for linears of every kind: one order of summation, parts, sums without subgroups, several at once, gates. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LinearWeight } from '../../core/model/backend.ts';
import { referenceLinear } from '../../core/model/reference-weights.ts';
import type { Linears } from '../../gpu-worker/webgpu/linears.ts';
import type { Space } from '../../gpu-worker/webgpu/row-ops.ts';
import { bnb4Of, denseOf, gaussians, gptqOf, int8Of } from '../wasm/inputs.ts';
import { activation, relativeError } from '../wasm/oracle.ts';
import { openSpace, place, readBack } from './gpu-under-test.ts';
import { F32_TOLERANCE, LinearsUnderTest } from './linear-under-test.ts';

const IN = 416;

let space: Space;
beforeAll(async () => {
  space = await openSpace();
});
afterAll(async () => {
  await space.gpu.destroy();
});

/** One of each kind, [outFeatures, IN]. */
function weightsOf(outFeatures: number): [string, LinearWeight][] {
  const values = gaussians(outFeatures * IN, 1);
  const bias = gaussians(outFeatures, 2);
  return [
    ['gptq', gptqOf({ outFeatures, inFeatures: IN, groupSize: 32, sym: false, actOrder: true, bias: true })],
    ['bnb4', bnb4Of(values, IN, { quantType: 'nf4', blockSize: 32, nested: true, bias })],
    ['bnb4 across rows', bnb4Of(values, IN, { quantType: 'fp4', blockSize: 64, bias })],
    [
      'bnb4 anywhere',
      bnb4Of(values.subarray(0, outFeatures * (IN - 1)), IN - 1, { quantType: 'nf4', blockSize: 64, bias }),
    ],
    ['int8', int8Of(values, IN, 2, bias)],
    ['dense', denseOf(values, IN, bias)],
  ];
}

describe('every kind of linear', () => {
  test.each(weightsOf(67))('%s, deterministic: a token gives the same bits alone and among 33', async (_, weight) => {
    const { linears } = new LinearsUnderTest(space, { deterministic: true });
    const { inFeatures, outFeatures } = weight;
    const linear = await linears.load(weight, 'weight');
    const x = gaussians(33 * inFeatures, 5);
    space.activations.begin();
    const all = await readBack(space, linears.run(place(space, x, inFeatures), [linear])[0]!);
    expect(relativeError(all, referenceLinear(x, 33, weight))).toBeLessThan(F32_TOLERANCE);
    for (const [begin, count] of [
      [0, 1],
      [13, 3],
      [20, 8],
    ] as const) {
      space.activations.begin();
      const own = x.subarray(begin * inFeatures, (begin + count) * inFeatures);
      const some = await readBack(space, linears.run(place(space, own, inFeatures), [linear])[0]!);
      expect(some).toEqual(all.subarray(begin * outFeatures, (begin + count) * outFeatures));
    }
  });

  test.each(weightsOf(131))('%s in parts when its buffers exceed a binding', async (_, weight) => {
    // 32 rows of the smallest kind fit 8 KiB, 32 rows of the largest 64 KiB.
    const bindingBytes = weight.kind === 'dense' ? 64 << 10 : weight.kind === 'int8' ? 16 << 10 : 8 << 10;
    const tested = new LinearsUnderTest(space, { bindingBytes });
    expect((await tested.linears.load(weight, 'weight')).parts.length).toBeGreaterThan(2);
    expect(await tested.worstError(weight, [1, 9])).toBeLessThan(F32_TOLERANCE);
  });

  test.each(weightsOf(67))('%s without subgroups', async (_, weight) => {
    const tested = new LinearsUnderTest(space, { subgroups: 'none' });
    expect(await tested.worstError(weight, [1, 3])).toBeLessThan(F32_TOLERANCE);
  });

  test('a wide weight: one subgroup for four rows', async () => {
    const weight = gptqOf({ outFeatures: 66_000, inFeatures: 32, groupSize: 32, sym: true });
    expect(await new LinearsUnderTest(space).worstError(weight, [1])).toBeLessThan(F32_TOLERANCE);
  });

  test('rows too long for a binding are refused by the name of the tensor', async () => {
    const { linears } = new LinearsUnderTest(space, { bindingBytes: 4096 });
    await expect(linears.load(denseOf(gaussians(64 * 64, 1), 64), 'model.head')).rejects.toThrow('model.head');
  });
});

describe('several linears of one input', () => {
  test('give what each gives alone, whatever their kinds', async () => {
    const { linears } = new LinearsUnderTest(space);
    const weights = weightsOf(67).filter(([, weight]) => weight.inFeatures === IN);
    const loaded = await loadAll(
      linears,
      weights.map(([, weight]) => weight),
    );
    for (const tokens of [1, 9]) {
      const x = gaussians(tokens * IN, tokens);
      space.activations.begin();
      const ys = linears.run(place(space, x, IN), loaded);
      for (const [i, [, weight]] of weights.entries()) {
        const y = await readBack(space, ys[i]!);
        expect(relativeError(y, referenceLinear(x, tokens, weight))).toBeLessThan(F32_TOLERANCE);
      }
    }
  });

  test('a gated pair gives f(gate) · up', async () => {
    const { linears } = new LinearsUnderTest(space);
    for (const [, up] of weightsOf(67).filter(([, weight]) => weight.inFeatures === IN)) {
      const gate = gptqOf({ outFeatures: 67, inFeatures: IN, groupSize: 32, sym: true, seed: 9 });
      const [onGate, onUp] = await loadAll(linears, [gate, up]);
      for (const tokens of [1, 9]) {
        const x = gaussians(tokens * IN, tokens);
        space.activations.begin();
        const y = await readBack(space, linears.gated('silu', place(space, x, IN), onGate!, onUp!));
        const opened = referenceLinear(x, tokens, gate);
        const wanted = referenceLinear(x, tokens, up).map((value, i) => activation('silu', opened[i]!) * value);
        expect(relativeError(y, wanted)).toBeLessThan(2 * F32_TOLERANCE);
      }
    }
  });
});

function loadAll(linears: Linears, weights: readonly LinearWeight[]) {
  return Promise.all(weights.map((weight, i) => linears.load(weight, `weight ${i}`)));
}
