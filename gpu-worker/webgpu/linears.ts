/** Linears: weights on the device and their products. */
import type { Activation, ActivationFunction, Linear, LinearWeight } from '../../core/model/backend.ts';
import { impossible } from './activations.ts';
import type { Space } from './row-ops.ts';

export class Linears {
  readonly #space: Space;
  constructor(space: Space, _options: { deterministic: boolean }) {
    this.#space = space;
  }
  async load(_weight: LinearWeight, _label: string): Promise<Linear> {
    throw impossible(`not yet ${this.#space}`);
  }
  embed(_table: Linear, _ids: Int32Array, _scale: number): Activation {
    throw impossible('not yet');
  }
  run(_x: Activation, _weights: readonly Linear[]): Activation[] {
    throw impossible('not yet');
  }
  gated(_f: ActivationFunction, _x: Activation, _gate: Linear, _up: Linear): Activation {
    throw impossible('not yet');
  }
}
