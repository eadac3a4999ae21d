/** USD: pico-USD integers as the decimals that clients read, without floating point in between. */
const PICO_DIGITS = 12;

/** "0.0000125" for 12500000 pico-USD: exact, without an exponent. */
export function decimalUsd(picoUsd: number | string): string {
  const whole = BigInt(picoUsd);
  const digits = (whole < 0n ? -whole : whole).toString().padStart(PICO_DIGITS + 1, '0');
  const fraction = digits.slice(-PICO_DIGITS).replace(/0+$/, '');
  return `${whole < 0n ? '-' : ''}${digits.slice(0, -PICO_DIGITS)}${fraction === '' ? '' : `.${fraction}`}`;
}

/** The double nearest to the exact amount, for JSON fields that are numbers by convention. */
export function numberUsd(picoUsd: number | string): number {
  return Number(decimalUsd(picoUsd));
}
