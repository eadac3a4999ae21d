/** ResidualStream: what flows from layer to layer. A branch's output waits for the next norm, which can add and norm in one pass. */
import type { NormOptions } from './architecture.ts';
import type { Activation, Backend } from './backend.ts';
import type { Norm } from './weights.ts';

export class ResidualStream {
  readonly #backend: Backend;
  readonly #options: NormOptions;
  #value: Activation;
  /** Not yet in #value. */
  #pending: Activation | null = null;

  /** `start` [tokens, hidden] becomes the stream's own: it is added to in place. */
  constructor(start: Activation, options: NormOptions, backend: Backend) {
    this.#value = start;
    this.#options = options;
    this.#backend = backend;
  }

  add(branch: Activation): void {
    this.value();
    this.#pending = branch;
  }

  /** All that was added. */
  value(): Activation {
    const pending = this.#pending;
    if (pending !== null) {
      this.#backend.add(this.#value, pending);
      this.#backend.free(pending);
      this.#pending = null;
    }
    return this.#value;
  }

  normed({ weight, bias }: Norm): Activation {
    const { kind, eps } = this.#options;
    const pending = this.#pending;
    if (kind === 'rms' && pending !== null) {
      this.#pending = null;
      const normed = this.#backend.addRmsNorm(this.#value, pending, weight, eps);
      this.#backend.free(pending);
      return normed;
    }
    return normOf(this.value(), { weight, bias }, this.#options, this.#backend);
  }

  /** Of all that was added only these rows go on, in this order. */
  keep(rows: Int32Array): void {
    this.replace(this.#backend.gatherRows(this.value(), rows));
  }

  /** `value` [tokens, hidden] stands in for all that was added. */
  replace(value: Activation): void {
    this.#backend.free(this.#value);
    this.#value = value;
    this.#pending = null;
  }
}

export function normOf(
  x: Activation,
  { weight, bias }: Norm,
  { kind, eps }: NormOptions,
  backend: Backend,
): Activation {
  return kind === 'rms' ? backend.rmsNorm(x, weight, eps) : backend.layerNorm(x, weight, bias, eps);
}
