/** Dynamic map: bitsandbytes' 8-bit code with a moving exponent, which holds the absolute maxima of double quantization. */

/** Values that share one absolute maximum. */
export const NESTED_BLOCK_SIZE = 256;
/** bitsandbytes' CPU kernel looks a value up at this resolution instead of searching the code (csrc/cpu_ops.cpp, kLUTSize). */
const STEPS = 65_536;

/** [256] f32, ascending: ±10^(i−6) times 2^i midpoints of 0.1..1, for i = 0..6; 0; 1. There is no −1. As create_dynamic_map() gives it. */
export const DYNAMIC_MAP: Float32Array = dynamicMap();
const CODE_OF_STEP: Uint8Array = codesOfSteps(DYNAMIC_MAP);

function dynamicMap(): Float32Array {
  const values = [0, 1];
  for (let i = 0; i < 7; i++) {
    const boundaries = linspace(0.1, 1, 2 ** i + 1);
    const power = Math.fround(10 ** (i - 6));
    for (let j = 0; j < 2 ** i; j++) {
      const middle = Math.fround(Math.fround(boundaries[j]! + boundaries[j + 1]!) / 2);
      const value = Math.fround(power * middle);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}

/** As torch.linspace in f32: counted from the nearer end, each value rounded once (CPUs with AVX2 fuse the multiplication and the sum). */
function linspace(first: number, last: number, count: number): Float32Array {
  const [start, end] = [Math.fround(first), Math.fround(last)];
  const step = Math.fround(Math.fround(end - start) / (count - 1));
  return Float32Array.from({ length: count }, (_, i) =>
    i < Math.floor(count / 2) ? start + step * i : end - step * (count - 1 - i),
  );
}

function codesOfSteps(map: Float32Array): Uint8Array {
  const codes = new Uint8Array(STEPS);
  let code = 0;
  for (let i = 0; i < STEPS; i++) {
    const value = Math.fround(-1 + Math.fround(Math.fround(2 * i) / (STEPS - 1)));
    while (code < 255 && Math.fround(0.5 * Math.fround(map[code]! + map[code + 1]!)) < value) code++;
    codes[i] = code;
  }
  return codes;
}

export interface DynamicCodes {
  /** [n] index into DYNAMIC_MAP */
  codes: Uint8Array;
  /** [⌈n/256⌉] f32 */
  absmax: Float32Array;
}

/**
 * values [n] → codes and a maximum for every 256: quantize_blockwise of bitsandbytes' CPU library, bit for bit. It picks the nearest code
 * of the nearest of 65,536 steps, so near a midpoint of two codes it may pick the farther one (about 1 value in 700). A block of zeros has code 0.
 */
export function quantizeDynamic(values: Float32Array): DynamicCodes {
  const codes = new Uint8Array(values.length);
  const absmax = new Float32Array(Math.ceil(values.length / NESTED_BLOCK_SIZE));
  for (let block = 0; block < absmax.length; block++) {
    const begin = block * NESTED_BLOCK_SIZE;
    const end = Math.min(begin + NESTED_BLOCK_SIZE, values.length);
    let largest = 0;
    for (let i = begin; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    absmax[block] = largest;
    if (largest === 0) continue;
    const inverse = Math.fround(1 / largest);
    for (let i = begin; i < end; i++) {
      const scaled = Math.min(1, Math.max(-1, Math.fround(values[i]! * inverse)));
      const half = Math.fround(Math.fround(scaled + 1) * 0.5);
      codes[i] = CODE_OF_STEP[Math.trunc(Math.fround(Math.fround(half * (STEPS - 1)) + 0.5))]!;
    }
  }
  return { codes, absmax };
}
