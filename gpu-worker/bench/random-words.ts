/** RandomWords: a stream of 32-bit words, fast enough for gigabytes of weights and the same on every machine for a seed. Not for sampling. */

/** xorshift32 with period 2^32 − 1 (Marsaglia, "Xorshift RNGs", 2003), shifts 13, 17, 5. */
export class RandomWords {
  #state: number;

  /** Any seed; neighbouring seeds start far apart. */
  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  }

  fill(words: Int32Array): void {
    let state = this.#state;
    for (let i = 0; i < words.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[i] = state;
    }
    this.#state = state;
  }

  bytes(count: number): Uint8Array {
    const words = new Int32Array(Math.ceil(count / 4));
    this.fill(words);
    return new Uint8Array(words.buffer, 0, count);
  }

  /** Uniform in [low, high), in 2^32 steps. */
  uniform(count: number, low: number, high: number): Float32Array {
    const words = new Int32Array(count);
    this.fill(words);
    return Float32Array.from(words, (word) => low + ((word >>> 0) / 2 ** 32) * (high - low));
  }

  /** Whole numbers in [0, below). */
  integers(count: number, below: number): Int32Array {
    const words = new Int32Array(count);
    this.fill(words);
    return words.map((word) => Math.floor(((word >>> 0) / 2 ** 32) * below));
  }
}
