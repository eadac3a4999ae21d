import { describe, expect, test } from 'vitest';
import { FIXTURES, largestDifference, logitsOf, logitsTogether, openFixture } from './fixtures.ts';

/** transformers computes in f32; the reference sums in f64, SIMD kernels in another order. The acceptance asks for this much of both. */
const TOLERANCE = 1e-3;

describe.each(['reference', 'wasm'] as const)('on %s', (backend) => {
  test.each(FIXTURES)(
    '%s gives the logits of transformers, short and past its window or original context',
    async (name) => {
      const fixture = await openFixture(name);
      for (const { ids, logits } of [fixture.golden.short, fixture.golden.long]) {
        const got = await logitsOf(fixture, ids, { backend });
        expect(largestDifference(got, logits)).toBeLessThan(TOLERANCE);
      }
    },
  );

  test.each(FIXTURES)('%s gives the same bits in runs of seven tokens and token by token', async (name) => {
    const fixture = await openFixture(name);
    const { ids } = fixture.golden.long;
    const whole = await logitsOf(fixture, ids, { backend });
    expect(await logitsOf(fixture, ids, { backend, runTokens: 7 })).toEqual(whole);
    expect(await logitsOf(fixture, ids, { backend, runTokens: 1 })).toEqual(whole);
  });

  test.each(FIXTURES)('%s gives the last token’s bits also when no other’s are asked for', async (name) => {
    const fixture = await openFixture(name);
    const { ids } = fixture.golden.long;
    const last = (await logitsOf(fixture, ids, { backend })).slice(-fixture.config.vocabSize);
    expect(await logitsOf(fixture, ids, { backend, outputs: 'ends' })).toEqual(last);
    expect(await logitsOf(fixture, ids, { backend, outputs: 'ends', runTokens: 7 })).toEqual(last);
  });
});

describe('rope that depends on length', () => {
  test.each(['llama-dynamic', 'phi3-longrope'] as const)(
    '%s is chosen by what is planned, not by how far the answer has come',
    async (name) => {
      const fixture = await openFixture(name);
      const { ids, logits } = fixture.golden.long;
      const few = ids.slice(0, 10);
      const planned = await logitsOf(fixture, few, { plannedTokens: ids.length });
      expect(largestDifference(planned, logits.subarray(0, planned.length))).toBeLessThan(TOLERANCE);
      expect(largestDifference(await logitsOf(fixture, few), planned)).toBeGreaterThan(0.1);
    },
  );

  test.each(['llama-dynamic', 'phi3-longrope'] as const)(
    '%s: a short prompt and a long one in one batch each have their own',
    async (name) => {
      const fixture = await openFixture(name);
      const { short, long } = fixture.golden;
      const [first, second] = await logitsTogether(fixture, [short.ids, long.ids]);
      expect(first).toEqual(await logitsOf(fixture, short.ids));
      expect(second).toEqual(await logitsOf(fixture, long.ids));
    },
  );
});
