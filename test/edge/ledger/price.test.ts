/** Price: money is exact integers. */
import { expect, test } from 'vitest';
import { picoUsdOf } from '../../../edge/api/usd.ts';
import { costAtMostPicoUsd, costPicoUsd, exactNumber, MAX_REQUEST_MICRO_USD } from '../../../edge/ledger/price.ts';

test('a token at N micro-USD per million tokens costs N pico-USD', () => {
  const tariff = { promptMicroUsdPerMtok: 100_000, completionMicroUsdPerMtok: 400_000 };
  expect(costPicoUsd(tariff, 1, 0)).toBe(100_000n);
  expect(costPicoUsd(tariff, 1_000_000, 1_000_000)).toBe(500_000_000_000n);
  expect(costPicoUsd(tariff, 0, 0)).toBe(0n);
});

test('cached tokens have a price of their own, and a request may have one', () => {
  const tariff = {
    promptMicroUsdPerMtok: 10,
    completionMicroUsdPerMtok: 20,
    cachedPromptMicroUsdPerMtok: 1,
    requestMicroUsd: 7,
  };
  expect(costPicoUsd(tariff, 100, 5, 40)).toBe(60n * 10n + 40n * 1n + 5n * 20n + 7_000_000n);
  expect(costPicoUsd({ ...tariff, cachedPromptMicroUsdPerMtok: 10 }, 100, 5, 40)).toBe(costPicoUsd(tariff, 100, 5));
  expect(costPicoUsd(tariff, 0, 0)).toBe(0n);
  expect(() => costPicoUsd(tariff, 1, 0, 2)).toThrow('2 of 1 prompt tokens');
});

test('what is reserved covers the cost, however much is cached', () => {
  for (const cachedPrice of [0, 3, 10, 11, 1000])
    for (const cached of [0, 1, 50, 100]) {
      const tariff = {
        promptMicroUsdPerMtok: 10,
        completionMicroUsdPerMtok: 20,
        cachedPromptMicroUsdPerMtok: cachedPrice,
      };
      expect(costAtMostPicoUsd(tariff, 100, 7)).toBeGreaterThanOrEqual(costPicoUsd(tariff, 100, 7, cached));
    }
});

test('the dearest request of four million tokens is still exact, one beyond a double throws', () => {
  const dearest = {
    promptMicroUsdPerMtok: 1_000_000_000,
    completionMicroUsdPerMtok: 1_000_000_000,
    requestMicroUsd: MAX_REQUEST_MICRO_USD,
  };
  expect(exactNumber(costPicoUsd(dearest, 2 ** 21, 2 ** 21))).toBe(2 ** 22 * 1e9 + 1e15);
  expect(() => exactNumber(2n ** 53n)).toThrow('not exact');
});

test.each([
  ['5', 5_000_000_000_000n],
  ['0.1', 100_000_000_000n],
  ['0.000000000001', 1n],
  ['999999999.5', 999_999_999_500_000_000_000n],
])('%s dollars are exact', (usd, pico) => {
  expect(picoUsdOf(usd)).toBe(pico);
});

test.each(['', '-1', '1e3', '.5', '1.', '0.0000000000001', '1000000000', 'NaN', '1,5'])(
  '%j is not an amount',
  (usd) => {
    expect(picoUsdOf(usd)).toBeNull();
  },
);
