/** Heavy tails: every packed format where one input channel in a hundred is nine times as large, as in trained models. */
import { describe, expect, test } from 'vitest';
import type { LinearWeight } from '../../core/model/backend.ts';
import { bnb4Of, gaussians, gptqOf, int8Of, runLinear } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantize, dequantizeBnb4, dequantizeInt8, linear, random, relativeError } from './oracle.ts';

const IN = 2048;
const OUT = 64;

/** A large channel sets the step of the 32 in its chunk, which is 9 / 127 of a deviation and more. Measured 0.69–1.33%. */
const INT8_CHUNKS = 1.5e-2;
/** The same with 1,023 levels, an eighth. Measured 0.09–0.17%. */
const INT11_CHUNKS = 2e-3;
/** As GPTQ below 8 bits, with a chunk's errors spread over weights of either sign. Measured 0.83–0.93%. */
const TABLES = 1.2e-2;
/** The method itself: the large values of 6 and more stand apart, the others share a step of 6 / 127. Measured 0.81–1.00%. */
const LLM_INT8 = 1.1e-2;

const CASES: { name: string; bound: number; of: (seed: number) => { weight: LinearWeight; plain: Float64Array } }[] = [
  ...([2, 3, 4, 8] as const).flatMap((bits) =>
    [32, 128, IN].map((groupSize) => ({
      name: `gptq, ${bits} bits, group ${groupSize}`,
      bound: bits === 8 ? INT11_CHUNKS : INT8_CHUNKS,
      of: (seed: number) => {
        const weight = gptqOf({ outFeatures: OUT, inFeatures: IN, groupSize, bits, sym: false, seed });
        return { weight, plain: dequantize(weight) };
      },
    })),
  ),
  ...(['nf4', 'fp4'] as const).map((quantType) => ({
    name: quantType,
    bound: TABLES,
    of: (seed: number) => {
      const weight = bnb4Of(gaussians(OUT * IN, seed), IN, { quantType, blockSize: 64 });
      return { weight, plain: dequantizeBnb4(weight) };
    },
  })),
  {
    name: 'int8',
    bound: LLM_INT8,
    of: (seed) => {
      const weight = int8Of(gaussians(OUT * IN, seed), IN, 6);
      return { weight, plain: dequantizeInt8(weight) };
    },
  },
];

function heavyTailed(seed: number): Float32Array {
  const next = random(seed);
  const isLarge = Array.from({ length: IN }, () => next() < 0.01);
  return gaussians(8 * IN, seed).map((value, i) => (isLarge[i % IN] ? value * 9 : value));
}

describe.each(VARIANTS)('heavy tails, %s', (variant) => {
  test.each(CASES)('$name stays within $bound of the dequantised weights', async ({ bound, of }) => {
    for (const seed of [1, 2, 3]) {
      const { weight, plain } = of(seed);
      const x = heavyTailed(seed * 77);
      const y = await runLinear(await backendOf(variant), weight, x);
      expect(relativeError(y, linear(x, plain, null, IN))).toBeLessThan(bound);
    }
  });
});
