/** Price: tokens and tariffs to pico-USD, in integers only. One token at N micro-USD per million tokens costs exactly N pico-USD. */

/** $1,000 per million tokens: with it a request of 2²² tokens still fits a double exactly when shown as a number. */
export const MAX_PRICE_MICRO_USD_PER_MTOK = 1_000_000_000;

/** What the tokens of one request cost; kept with every row of the ledger. */
export interface Tariff {
  promptMicroUsdPerMtok: number;
  completionMicroUsdPerMtok: number;
}

export function costPicoUsd(tariff: Tariff, promptTokens: number, completionTokens: number): bigint {
  return (
    BigInt(promptTokens) * BigInt(tariff.promptMicroUsdPerMtok) +
    BigInt(completionTokens) * BigInt(tariff.completionMicroUsdPerMtok)
  );
}

/** A cost for the wire. Throws when it would not be exact. */
export function exactNumber(picoUsd: bigint): number {
  const number = Number(picoUsd);
  if (!Number.isSafeInteger(number)) throw new Error(`a cost of ${picoUsd} pico-USD is not exact as a number`);
  return number;
}

/** Decimal dollars as text ("5", "0.25") to pico-USD; null when it is not a plain amount of at most 12 places. */
export function picoUsdOf(usd: string): bigint | null {
  const match = /^(\d{1,9})(?:\.(\d{1,12}))?$/.exec(usd);
  if (match === null) return null;
  return BigInt(match[1]!) * 1_000_000_000_000n + BigInt((match[2] ?? '').padEnd(12, '0'));
}
