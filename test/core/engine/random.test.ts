import { describe, expect, test } from 'vitest';
import { philox, uniform } from '../../../core/engine/random.ts';

describe('philox', () => {
  // Known answers of the Random123 distribution (kat_vectors, philox 4x32, 10 rounds).
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)('gives the published answer for %o under %o', (counter, key, words) => {
    expect(philox(counter, key)).toEqual(words);
  });
});

describe('uniform', () => {
  test('depends on seed and position alone, and on both', () => {
    expect(uniform(7, 3)).toBe(uniform(7, 3));
    const draws = new Set([uniform(7, 3), uniform(7, 4), uniform(8, 3), uniform(2 ** 40 + 7, 3)]);
    expect(draws.size).toBe(4);
  });

  test('fills [0, 1) evenly', () => {
    const buckets = new Array<number>(10).fill(0);
    for (let position = 0; position < 100_000; position++) {
      const u = uniform(1, position);
      expect(u >= 0 && u < 1).toBe(true);
      buckets[Math.floor(u * 10)]!++;
    }
    // 10,000 expected, standard deviation 95: five of them.
    for (const count of buckets) expect(Math.abs(count - 10_000)).toBeLessThan(475);
  });
});
