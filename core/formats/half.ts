/** Half: 16-bit floats (IEEE f16 and bfloat16) to f32 and back, as bit patterns. To f32 is exact; from f32 rounds to nearest, ties to even. */

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** 2^112: moves an exponent from f16's bias (15) to f32's (127). */
const F16_REBIAS = 2 ** 112;

export function f16ToF32(bits: number): number {
  const magnitude = bits & 0x7fff;
  const sign = bits & 0x8000 ? -1 : 1;
  if (magnitude >= 0x7c00) return magnitude === 0x7c00 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  // Exponent and fraction in f32's places; the product is exact, for subnormals too.
  word[0] = magnitude << 13;
  return sign * float[0]! * F16_REBIAS;
}

/** `value` is rounded to f32 first. Above 65,519.99… comes infinity; every NaN becomes a quiet one. */
export function f32ToF16(value: number): number {
  float[0] = value;
  const sign = (word[0]! >>> 16) & 0x8000;
  const magnitude = word[0]! & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65,520 is halfway between the largest f16 and the next power of two, and the tie goes there.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Below 2^-14: an f16 subnormal counts units of 2^-24.
    float[0] = Math.abs(float[0]!);
    return sign | roundHalfEven(float[0]! * 2 ** 24);
  }
  const rebased = magnitude - (112 << 23);
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
}

export function bf16ToF32(bits: number): number {
  word[0] = bits << 16;
  return float[0]!;
}

/** `value` is rounded to f32 first; every NaN becomes a quiet one. */
export function f32ToBf16(value: number): number {
  float[0] = value;
  const bits = word[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) & 0x8000) | 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** bits [n] → values [n] */
export function f16ToF32Array(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  f16IntoF32(bits, values);
  return values;
}

/** The same into `values` [n]. */
export function f16IntoF32(bits: Uint16Array, values: Float32Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i]!;
    words[i] = ((half & 0x8000) << 16) | ((half & 0x7fff) << 13);
    if ((half & 0x7c00) === 0x7c00) words[i]! |= 0x7f800000;
    else values[i]! *= F16_REBIAS;
  }
}

/** bits [n] → values [n] */
export function bf16ToF32Array(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  bf16IntoF32(bits, values);
  return values;
}

/** The same into `values` [n]. */
export function bf16IntoF32(bits: Uint16Array, values: Float32Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
}

/** values [n] → bits [n] */
export function f32ToF16Array(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, f32ToF16);
}

/** values [n] → bits [n] */
export function f32ToBf16Array(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, f32ToBf16);
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0);
}
