/** Rope: rotary angles by position, computed on the host in f64 so that every backend rotates by the same f32 numbers. */

/** Angles as cos and sin tables of a batch, each [tokens, rotaryDim/2] f32. */
export interface RopeTables {
  cos: Float32Array;
  sin: Float32Array;
}

/** θ_i = base^(−2i/dim) for i < dim/2 (Su et al., RoFormer), rounded to f32 as transformers does. */
export function inverseFrequencies(rotaryDim: number, base: number): Float32Array {
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => 1 / base ** ((2 * i) / rotaryDim));
}

export function ropeTables(positions: Int32Array, frequencies: Float32Array): RopeTables {
  const half = frequencies.length;
  const cos = new Float32Array(positions.length * half);
  const sin = new Float32Array(positions.length * half);
  for (let token = 0; token < positions.length; token++)
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(positions[token]! * frequencies[i]!);
      cos[token * half + i] = Math.cos(angle);
      sin[token * half + i] = Math.sin(angle);
    }
  return { cos, sin };
}
