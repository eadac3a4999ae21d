/** Bits: both builds agree, and a token's row does not depend on what comes with it. */
import { describe, expect, test } from 'vitest';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { OP_CASES, POOL_ROWS, runInSteps } from './op-cases.ts';

const WHOLE = [POOL_ROWS];
const STEPS = [Array.from({ length: POOL_ROWS }, () => 1), [16, 17], [2, 3, 15, 13], [5, 4, 1, 7, 6, 3, 7], [32, 1]];
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer);

describe.each(OP_CASES)('$name', (op) => {
  test('relaxed and plain give the same bits', async () => {
    const relaxed = await runInSteps(op, await backendOf('relaxed'), WHOLE);
    const plain = await runInSteps(op, await backendOf('plain'), WHOLE);
    expect(relaxed.every(Number.isFinite)).toBe(true);
    expect(relaxed.some((value) => value !== 0)).toBe(true);
    expect(bitsOf(relaxed)).toEqual(bitsOf(plain));
  });

  test.each(VARIANTS)('a row is the same alone, in any batch, in prefill and decode: %s', async (variant) => {
    const whole = bitsOf(await runInSteps(op, await backendOf(variant), WHOLE));
    for (const sizes of STEPS)
      expect(bitsOf(await runInSteps(op, await backendOf(variant), sizes)), sizes.join(' ')).toEqual(whole);
  });
});
