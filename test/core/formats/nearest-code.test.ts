/** The code of a 4-bit value is the nearest one; between two, that of the lower value. Against a plain search, where rounding could tell. */
import { expect, test } from 'vitest';
import { BNB4_TABLES, quantizeBnb4 } from '../../../core/formats/nf4-fp4.ts';

const ULPS = 300;

/** Every f32 within ULPS of `value`. */
function near(value: number): number[] {
  const float = Float32Array.of(value);
  const word = new Int32Array(float.buffer);
  const middle = word[0]!;
  return Array.from({ length: 2 * ULPS + 1 }, (_, i) => {
    word[0] = middle + i - ULPS;
    return float[0]!;
  });
}

test.each(['nf4', 'fp4'] as const)('%s', (type) => {
  // −0 stands below 0, and what is above it takes its code: so does bitsandbytes' CPU path.
  const codes = [...BNB4_TABLES[type].keys()].sort((a, b) => BNB4_TABLES[type][a]! - BNB4_TABLES[type][b]! || a - b);
  const rising = codes.map((code) => BNB4_TABLES[type][code]!);
  const middles = rising.slice(1).map((value, i) => Math.fround(Math.fround(rising[i]! + value) / 2));
  const edges = Array.from({ length: 2048 }, (_, step) => (step + 1) / 1024 - 1);
  const values = [...middles, ...edges, 1e-20, -1e-20]
    .flatMap(near)
    .filter((value) => Number.isFinite(value) && Math.abs(value) <= 1);
  // Blocks of two with a 1, so that values are scaled by nothing.
  const { packed } = quantizeBnb4(Float32Array.from(values.flatMap((value) => [value, 1])), type, 2);
  const wrong = values.filter(
    (value, i) => packed[i]! >> 4 !== codes[middles.filter((middle) => middle < value).length],
  );
  expect(values.length).toBeGreaterThan(1_000_000);
  expect(wrong).toEqual([]);
});
