/** AttentionPlan: every token's visible positions are covered once, by splits that depend on that token alone. */
import { describe, expect, test } from 'vitest';
import { attentionPlan, type PlanOptions, splitTokensFor } from '../../gpu-worker/webgpu/attention-plan.ts';
import type { Run } from '../../gpu-worker/webgpu/step-inputs.ts';

const PLAN: PlanOptions = { group: 1, window: null, splitTokens: 64, prefillTokens: null, mostPartials: 1000 };
const RUNS: Run[] = [
  { begin: 0, tokens: 3, position: 62, sequence: 4 },
  { begin: 3, tokens: 1, position: 0, sequence: 1 },
  { begin: 4, tokens: 40, position: 300, sequence: 0 },
];

const itemsOf = (runs: readonly Run[], options: PlanOptions) =>
  attentionPlan(runs, options).turns.flatMap(({ items: { words, count } }) =>
    Array.from({ length: count }, (_, at) => [...words.subarray(8 * at, 8 * at + 8)] as Item),
  );
type Item = [number, number, number, number, number, number, number, number];

describe('attention plan', () => {
  test.each([null, 1, 63, 64, 65, 200])('a window of %s: each visible position once, in one split', (window) => {
    const seen = new Map<number, number[]>();
    for (const [row, , begin, count] of itemsOf(RUNS, { ...PLAN, window })) {
      expect(Math.floor(begin / 64)).toBe(Math.floor((begin + count - 1) / 64));
      seen.set(row, [...(seen.get(row) ?? []), ...Array.from({ length: count }, (_, at) => begin + at)]);
    }
    for (const { begin, tokens, position } of RUNS)
      for (let at = 0; at < tokens; at++) {
        const first = window === null ? 0 : Math.max(0, position + at - window + 1);
        expect(seen.get(begin + at)).toEqual(
          Array.from({ length: position + at + 1 - first }, (_, place) => first + place),
        );
      }
  });

  test('partials of a turn fit the buffer, and no token is in two turns', () => {
    const { turns } = attentionPlan(RUNS, { ...PLAN, mostPartials: 13 });
    expect(turns.length).toBeGreaterThan(10);
    const rows = turns.map(({ items: { words, count }, partials }) => {
      expect(partials).toBeLessThanOrEqual(13);
      return new Set(Array.from({ length: count }, (_, at) => words[8 * at]!));
    });
    expect(rows.reduce((sum, set) => sum + set.size, 0)).toBe(44);
  });

  test('long runs are tiles of 64 rows, the rest items', () => {
    const { tiles, turns } = attentionPlan(RUNS, { ...PLAN, group: 3, prefillTokens: 16 });
    expect(tiles).toEqual({
      count: 2,
      words: Uint32Array.of(4, 40, 300, 0, 0, 0, 0, 0, 4, 40, 300, 0, 1, 0, 0, 0),
    });
    expect(turns.flatMap(({ items }) => items.words[0])).toEqual([0]);
    expect(attentionPlan(RUNS, { ...PLAN, prefillTokens: 41 }).tiles).toBeNull();
  });

  test('the largest split that makes enough of them', () => {
    const decode: Run[] = [{ begin: 0, tokens: 1, position: 999, sequence: 0 }];
    expect(splitTokensFor(decode, null, [256, 128, 64], 4)).toBe(256);
    expect(splitTokensFor(decode, null, [256, 128, 64], 5)).toBe(128);
    expect(splitTokensFor(decode, null, [256, 128, 64], 100)).toBe(64);
    expect(splitTokensFor(decode, 100, [256, 128, 64], 2)).toBe(64);
    expect(splitTokensFor(decode, 400, [256, 128, 64], 4)).toBe(128);
  });
});
