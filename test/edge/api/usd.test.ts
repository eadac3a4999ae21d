/** Amounts reach clients exactly. */
import { expect, it } from 'vitest';
import { decimalUsd, numberUsd } from '../../../edge/api/usd.ts';

it.each([
  [0, '0'],
  [1, '0.000000000001'],
  [12_500_000, '0.0000125'],
  [1_000_000_000_000, '1'],
  [1_234_567_890_123, '1.234567890123'],
  [-1_500_000_000_000, '-1.5'],
  [-1, '-0.000000000001'],
  ['123456789012345678901234567890', '123456789012345678.90123456789'],
])('%s pico-USD is %s USD', (picoUsd, text) => {
  expect(decimalUsd(picoUsd)).toBe(text);
});

it('a JSON number is the double nearest to the amount', () => {
  expect(numberUsd(3_000_000)).toBe(0.000003);
  expect(JSON.stringify(numberUsd(12_500_000))).toBe('0.0000125');
});

it('a fraction of a pico-USD is an impossible state', () => {
  expect(() => decimalUsd(0.5)).toThrow(RangeError);
});
