/** USD: pico-USD integers as the decimals that clients read and write, without floating point in between. */
const PICO_DIGITS = 12;

/** "0.0000125" for 12500000 pico-USD: exact, without an exponent. */
export function decimalUsd(picoUsd: number | string | bigint): string {
  const whole = BigInt(picoUsd);
  const digits = (whole < 0n ? -whole : whole).toString().padStart(PICO_DIGITS + 1, '0');
  const fraction = digits.slice(-PICO_DIGITS).replace(/0+$/, '');
  return `${whole < 0n ? '-' : ''}${digits.slice(0, -PICO_DIGITS)}${fraction === '' ? '' : `.${fraction}`}`;
}

/** The double nearest to the exact amount, for JSON fields that are numbers by convention. */
export function numberUsd(picoUsd: number | string | bigint): number {
  return Number(decimalUsd(picoUsd));
}

/** Decimal dollars as text ("5", "0.25") to pico-USD; null when it is not a plain amount of at most 12 places. */
export function picoUsdOf(usd: string): bigint | null {
  const match = /^(\d{1,9})(?:\.(\d{1,12}))?$/.exec(usd);
  if (match === null) return null;
  return BigInt(match[1]!) * 1_000_000_000_000n + BigInt((match[2] ?? '').padEnd(PICO_DIGITS, '0'));
}
