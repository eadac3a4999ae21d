/** InputCapture: a backend that keeps the inputs of chosen linears as they pass, and can end the pass at the last of them. */
import type { Activation, Backend, Linear } from '../../core/model/backend.ts';

/** Thrown out of a pass that has given all that was wanted. */
class Done extends Error {}

export class InputCapture {
  /** The backend to load and run on. Its layers share one layer of key/value pages: they run one at a time. */
  readonly backend: Backend;
  readonly #inner: Backend;
  readonly #names = new Map<Linear, string>();
  #wanted: ReadonlySet<string> = new Set();
  #captured = new Map<string, Promise<Float32Array>>();

  constructor(inner: Backend) {
    this.#inner = inner;
    const linear = (x: Activation, weight: Linear) => {
      this.#note(x, [weight]);
      return inner.linear(x, weight);
    };
    const overrides: Partial<Backend> = {
      loadLinear: async (weight, label) => {
        const loaded = await inner.loadLinear(weight, label);
        this.#names.set(loaded, label);
        return loaded;
      },
      linear,
      linears: (x, weights) => {
        this.#note(x, weights);
        return inner.linears(x, weights);
      },
      gatedLinear: (f, x, gate, up) => {
        this.#note(x, [gate, up]);
        return inner.gatedLinear(f, x, gate, up);
      },
      ropeKv: (_layer, q, k, v, rope) => inner.ropeKv(0, q, k, v, rope),
      attention: (_layer, q, options) => inner.attention(0, q, options),
    };
    this.backend = new Proxy(inner, {
      get(target, name) {
        const member = overrides[name as keyof Backend] ?? target[name as keyof Backend];
        return typeof member === 'function' ? member.bind(target) : member;
      },
    });
  }

  /** Runs `pass` until the last of the linears `names` is reached. Their inputs [tokens, columns], in the order of `names`. */
  async during(names: readonly string[], pass: () => void): Promise<Float32Array[]> {
    this.#wanted = new Set(names);
    this.#captured = new Map();
    try {
      pass();
    } catch (error) {
      if (!(error instanceof Done)) throw error;
    } finally {
      this.#wanted = new Set();
    }
    return Promise.all(
      names.map((name) => {
        const input = this.#captured.get(name);
        if (input === undefined) throw new Error(`the pass did not reach ${name}`);
        return input;
      }),
    );
  }

  #note(x: Activation, weights: readonly Linear[]): void {
    if (this.#wanted.size === 0) return;
    for (const weight of weights) {
      const name = this.#names.get(weight);
      if (name !== undefined && this.#wanted.has(name) && !this.#captured.has(name))
        this.#captured.set(name, this.#inner.read(x));
    }
    if (this.#captured.size === this.#wanted.size) throw new Done();
  }
}
