/** exp, tanh, and the activation functions with and without a gate. */
import { describe, expect, test } from 'vitest';
import type { ActivationFunction } from '../../core/model/backend.ts';
import { gaussians, place, tokensBatch } from './inputs.ts';
import { backendOf, kernelsOf, VARIANTS } from './kernel-set.ts';
import { activation, relativeError } from './oracle.ts';

/** A handful of f32 roundings an element. */
const ELEMENT_TOLERANCE = 1e-6;
/** Worst of any element from −9 to 9. Far out on the left gelu_tanh is exp of a cubic that is itself rounded, e^-60 at −9. */
const TAIL_TOLERANCES = { relu: 0, gelu: 1.5e-6, gelu_tanh: 2e-5, silu: 1e-6 };
const FUNCTIONS: ActivationFunction[] = ['relu', 'gelu', 'gelu_tanh', 'silu'];

/** `count` values evenly from `first` to `last`. */
function ramp(count: number, first: number, last: number): Float32Array {
  return new Float32Array(count).map((_, i) => first + (i / count) * (last - first));
}

describe.each(VARIANTS)('exp and tanh, %s', (variant) => {
  function apply(name: 'exp_f32' | 'tanh_f32', x: Float32Array): Float32Array {
    const { kernels, memory } = kernelsOf(variant);
    const from = memory.step(x.byteLength);
    const to = memory.step(x.byteLength);
    memory.f32(from, x.length).set(x);
    kernels[name](from, to, x.length);
    return memory.f32(to, x.length).slice();
  }

  function worstUlps(x: Float32Array, y: Float32Array, f: (x: number) => number): number {
    let worst = 0;
    for (let i = 0; i < x.length; i++) {
      const want = f(x[i]!);
      const ulp = 2 ** (Math.floor(Math.log2(Math.abs(want))) - 23);
      worst = Math.max(worst, Math.abs(y[i]! - want) / ulp);
    }
    return worst;
  }

  test('exp is within 2 ulp from -87 to 88.7', () => {
    const x = ramp(1 << 20, -87, 88.7);
    expect(worstUlps(x, apply('exp_f32', x), Math.exp)).toBeLessThan(2);
  });

  test('exp is exactly 1 at 0, fades through the subnormals to 0, ends in infinity, and keeps NaN', () => {
    const special = [0, -0, -100, -104, -1e30, Number.NEGATIVE_INFINITY, 89, Number.POSITIVE_INFINITY];
    const y = apply('exp_f32', new Float32Array(special));
    expect([...y.subarray(0, 2)]).toEqual([1, 1]);
    // 3.8e-44 is 27 steps of the smallest subnormal.
    expect(Math.abs(y[2]! - Math.exp(-100))).toBeLessThanOrEqual(2 ** -149);
    expect([...y.subarray(3)]).toEqual([0, 0, 0, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
    const poisoned = apply('exp_f32', new Float32Array([Number.NaN, 1, 1, 1]));
    expect([...poisoned].map(Number.isNaN)).toEqual([true, false, false, false]);
  });

  test('tanh is within 3 ulp, odd, ends in ±1, and keeps NaN', () => {
    for (const x of [ramp(1 << 18, 1e-6, 1), ramp(1 << 18, -12, -0.5)])
      expect(worstUlps(x, apply('tanh_f32', x), Math.tanh)).toBeLessThan(3);
    const y = apply('tanh_f32', new Float32Array([0, 1e30, Number.NEGATIVE_INFINITY, Number.NaN]));
    expect([...y]).toEqual([0, 1, -1, Number.NaN]);
  });
});

describe.each(VARIANTS)('activation functions, %s', (variant) => {
  test.each(FUNCTIONS)('%s keeps its digits from the left tail to the right', async (f) => {
    const backend = await backendOf(variant);
    const x = ramp(1 << 16, -9, 9);
    backend.begin(tokensBatch(1));
    const y = await backend.read(backend.activate(f, await place(backend, x, x.length)));
    let worst = 0;
    x.forEach((value, i) => {
      const want = activation(f, value);
      if (want !== 0) worst = Math.max(worst, Math.abs(y[i]! - want) / Math.abs(want));
      else expect(y[i]).toBe(0);
    });
    expect(worst).toBeLessThanOrEqual(TAIL_TOLERANCES[f]);
  });

  test.each(FUNCTIONS)('%s of large values and of NaN', async (f) => {
    const backend = await backendOf(variant);
    const x = Float32Array.of(-1e4, -100, -50, 50, 100, 1e4, Number.NaN, 0);
    backend.begin(tokensBatch(1));
    const y = await backend.read(backend.activate(f, await place(backend, x, x.length)));
    expect([...y.subarray(0, 3)].every((value) => Math.abs(value) < 1e-19)).toBe(true);
    expect([...y.subarray(3)]).toEqual([50, 100, 1e4, Number.NaN, 0]);
  });

  const shapes = [
    [1, 1],
    [3, 5],
    [2, 172],
    [17, 9],
  ] as const;
  test.each(FUNCTIONS.flatMap((f) => shapes.map(([rows, cols]) => ({ f, rows, cols }))))(
    '$f [$rows, $cols], gated and not, far out on both sides too',
    async ({ f, rows, cols }) => {
      const backend = await backendOf(variant);
      const gate = gaussians(rows * cols, 1).map((value, i) => value * (i % 3 === 0 ? 60 : 1));
      const up = gaussians(rows * cols, 2);
      backend.begin(tokensBatch(rows));
      const [onGate, onUp] = [await place(backend, gate, cols), await place(backend, up, cols)];
      const alone = Float64Array.from(gate, (value) => activation(f, value));
      const gated = alone.map((value, i) => value * up[i]!);
      const close = (y: Float32Array, want: Float64Array) =>
        expect(relativeError(y, want)).toBeLessThan(ELEMENT_TOLERANCE);
      close(await backend.read(backend.activate(f, onGate)), alone);
      close(await backend.read(backend.gated(f, onGate, onUp)), gated);
      expect(await backend.read(onGate)).toEqual(gate);
    },
  );
});
