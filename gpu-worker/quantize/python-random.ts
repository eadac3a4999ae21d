/** PythonRandom: Python's random.seed(n) and randint (MT19937), so that a seed draws the calibration windows that GPTQ's own scripts draw. */

const [N, M] = [624, 397];

export class PythonRandom {
  readonly #state = new Uint32Array(N);
  #index = N;

  /** random.seed(seed), for a whole number from 0. */
  constructor(seed: number) {
    const key: number[] = [];
    for (let rest = seed; rest > 0 || key.length === 0; rest = Math.floor(rest / 2 ** 32)) key.push(rest % 2 ** 32);
    this.#seedByArray(key);
  }

  /** low ≤ result ≤ high, fewer than 2^32 values. */
  randint(low: number, high: number): number {
    const count = high - low + 1;
    const bits = 32 - Math.clz32(count);
    for (;;) {
      const value = this.#next() >>> (32 - bits);
      if (value < count) return low + value;
    }
  }

  #seedByArray(key: readonly number[]): void {
    const state = this.#state;
    state[0] = 19650218;
    for (let i = 1; i < N; i++) state[i] = Math.imul(1812433253, state[i - 1]! ^ (state[i - 1]! >>> 30)) + i;
    let [i, j] = [1, 0];
    const wrap = () => {
      if (++i < N) return;
      state[0] = state[N - 1]!;
      i = 1;
    };
    const mixed = (factor: number) => state[i]! ^ Math.imul(state[i - 1]! ^ (state[i - 1]! >>> 30), factor);
    for (let k = Math.max(N, key.length); k > 0; k--) {
      state[i] = mixed(1664525) + key[j]! + j;
      wrap();
      j = (j + 1) % key.length;
    }
    for (let k = N - 1; k > 0; k--) {
      state[i] = mixed(1566083941) - i;
      wrap();
    }
    state[0] = 0x80000000;
  }

  #next(): number {
    const state = this.#state;
    if (this.#index >= N) {
      for (let k = 0; k < N; k++) {
        const y = (state[k]! & 0x80000000) | (state[(k + 1) % N]! & 0x7fffffff);
        state[k] = state[(k + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#index = 0;
    }
    let y = state[this.#index++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
}
