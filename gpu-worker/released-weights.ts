/** ReleasedWeights: a backend through which a weight's memory goes back to the system as soon as the weight is loaded, not when the collector comes. */
import type { Backend, LinearWeight } from '../core/model/backend.ts';

type Loads = Pick<Backend, 'loadLinear' | 'loadVector' | 'join'>;

/** Smaller arrays are left to the collector; tables that weights share are far below. */
const LEAST_BYTES = 1 << 20;

/** For backends that copy all of a weight. Its large arrays are empty afterwards. */
export function releasing(backend: Loads): Loads {
  return {
    async loadLinear(weight, label) {
      const linear = await backend.loadLinear(weight, label);
      release(weight);
      return linear;
    },
    join: async (weights) => backend.join?.(weights),
    loadVector: (values, label) => backend.loadVector(values, label),
  };
}

function release(weight: LinearWeight): void {
  const absmax = weight.kind === 'bnb4' ? Object.values(weight.absmax) : [];
  for (const array of [...Object.values(weight), ...absmax]) {
    if (!ArrayBuffer.isView(array) || !(array.buffer instanceof ArrayBuffer)) continue;
    // A view of something larger is not the weight's own.
    if (array.byteLength < LEAST_BYTES || array.byteLength !== array.buffer.byteLength) continue;
    // To an empty buffer, which detaches this one.
    array.buffer.transfer(0);
  }
}
