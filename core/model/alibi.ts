/** ALiBi: what a head takes from a score for each position of distance (Press et al., 2108.12409). */
import { bf16ToF32, f32ToBf16 } from '../formats/half.ts';

/**
 * [heads]: 2^(−8i/n) for i = 1..n, n the largest power of two within heads; the other heads take every second slope of 2n. Rounded to
 * bf16, as transformers' Falcon does. It also rounds slope · position, which shows from position 257 on; that is not repeated here.
 */
export function alibiSlopes(heads: number): Float32Array {
  const power = 2 ** Math.floor(Math.log2(heads));
  return Float32Array.from({ length: heads }, (_, head) => {
    const exponent = head < power ? (head + 1) / power : (2 * (head - power) + 1) / (2 * power);
    return bf16ToF32(f32ToBf16(2 ** (-8 * exponent)));
  });
}
