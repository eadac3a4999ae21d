/** Octets: 8 input channels of one row into the layouts of assembly/linear_chunks.ts, which say why. */

/** 32-bit words of 8 channels times 8 rows. */
export const OCTET_WORDS = { 2: 4, 3: 6, 4: 8, 8: 16 } as const;

/**
 * Writes one row's channels 0..3 (`low`) and 4..7 (`high`), a value below 2^bits a byte, into the octet that starts at word `at`.
 * The octet must hold zeros in the row's place.
 */
export function putOctet(bits: 2 | 3 | 4 | 8, target: Uint32Array, at: number, row: number, low: number, high: number) {
  const next = row >> 2;
  const word = at + (row & 3);
  switch (bits) {
    case 2:
      target[word]! |= (low | (high << 4)) << (2 * next);
      break;
    case 3: {
      target[word]! |= ((low & 0x03030303) | ((high & 0x03030303) << 4)) << (2 * next);
      const third = ((low >>> 2) & 0x01010101) | (((high >>> 2) & 0x01010101) << 2);
      target[at + 4 + (row & 1)]! |= third << (next + 2 * (row & 2));
      break;
    }
    case 4:
      target[at + row] = low | (high << 4);
      break;
    case 8:
      target[at + row] = low;
      target[at + 8 + row] = high;
      break;
    default:
      bits satisfies never;
  }
}
