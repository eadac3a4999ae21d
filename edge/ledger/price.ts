/** Price: tokens and tariffs to pico-USD, in integers only. One token at N micro-USD per million tokens costs exactly N pico-USD. */

/** $1,000 per million tokens: with it a request of 2²² tokens still fits a double exactly when shown as a number. */
export const MAX_PRICE_MICRO_USD_PER_MTOK = 1_000_000_000;
/** $1,000 a request: with 2²² tokens at the highest price still exact. */
export const MAX_REQUEST_MICRO_USD = 1_000_000_000;
const PICO_PER_MICRO = 1_000_000n;

/** What one request costs; kept with every row of the ledger. */
export interface Tariff {
  promptMicroUsdPerMtok: number;
  completionMicroUsdPerMtok: number;
  /** Prompt tokens that a worker had computed before. Absent: as other prompt tokens. */
  cachedPromptMicroUsdPerMtok?: number;
  /** Once for a request that is billed any token. Absent: nothing. */
  requestMicroUsd?: number;
  /** Which version of the model's price this is. Absent: the default price. */
  effectiveFromMs?: number;
}

/** `cachedTokens` of the prompt's tokens were cached. A request without a billed token is free. */
export function costPicoUsd(tariff: Tariff, promptTokens: number, completionTokens: number, cachedTokens = 0): bigint {
  if (cachedTokens > promptTokens) throw new Error(`${cachedTokens} of ${promptTokens} prompt tokens were cached`);
  if (promptTokens + completionTokens === 0) return 0n;
  const cachedPrice = tariff.cachedPromptMicroUsdPerMtok ?? tariff.promptMicroUsdPerMtok;
  return (
    BigInt(promptTokens - cachedTokens) * BigInt(tariff.promptMicroUsdPerMtok) +
    BigInt(cachedTokens) * BigInt(cachedPrice) +
    BigInt(completionTokens) * BigInt(tariff.completionMicroUsdPerMtok) +
    BigInt(tariff.requestMicroUsd ?? 0) * PICO_PER_MICRO
  );
}

/** The most that a request within these bounds may cost, however much of its prompt is cached. */
export function costAtMostPicoUsd(tariff: Tariff, promptTokens: number, completionTokens: number): bigint {
  const uncached = costPicoUsd(tariff, promptTokens, completionTokens);
  const cached = costPicoUsd(tariff, promptTokens, completionTokens, promptTokens);
  return cached > uncached ? cached : uncached;
}

/** A cost for the wire. Throws when it would not be exact. */
export function exactNumber(picoUsd: bigint): number {
  const number = Number(picoUsd);
  if (!Number.isSafeInteger(number)) throw new Error(`a cost of ${picoUsd} pico-USD is not exact as a number`);
  return number;
}
