/** MatrixCheck: products by subgroup matrices tried beside plain ones, since the feature is young and drivers differ. */
import type { DenseWeight } from '../../core/model/backend.ts';
import type { Gpu } from './gpu.ts';

/** Enough for the largest tile, and nothing divides. */
export const TRIAL = { tokens: 70, outFeatures: 75, inFeatures: 167 } as const;
/** Both factors rounded to 11 bits err by 3e-4. */
const TOLERANCE = 2e-3;

/** The same numbers each time, within −1 to 1. */
export function trialValues(count: number): Float32Array<ArrayBuffer> {
  let word = 1;
  return new Float32Array(count).map(() => {
    word = (Math.imul(word, 1664525) + 1013904223) | 0;
    return word / 2 ** 31;
  });
}

export function trialWeight(): DenseWeight {
  const { outFeatures, inFeatures } = TRIAL;
  const bytes = new Uint8Array(trialValues(outFeatures * inFeatures).buffer);
  return { kind: 'dense', outFeatures, inFeatures, dtype: 'f32', bytes, bias: null };
}

/**
 * What is wrong with them, null when nothing is. `multiply` adds the dispatches of both and gives the two results; whatever the driver says to
 * them is caught, and no failure of the device.
 */
export async function matrixFault(
  gpu: Gpu,
  multiply: () => { plain: GPUBuffer; matrices: GPUBuffer },
): Promise<string | null> {
  const { device } = gpu.opened;
  gpu.flush();
  device.pushErrorScope('validation');
  device.pushErrorScope('internal');
  const outcome = attempt(() => {
    const results = multiply();
    gpu.flush();
    return results;
  });
  const errors = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
  const error = errors.find((found) => found !== null);
  if (error) return `the driver refuses them: ${complaintOf(error.message)}`;
  if (outcome instanceof Error) return outcome.message;
  const { plain, matrices } = outcome;
  const bytes = 4 * TRIAL.tokens * TRIAL.outFeatures;
  const wanted = new Float32Array(await gpu.read(plain, bytes));
  const found = new Float32Array(await gpu.read(matrices, bytes));
  const distance = Math.hypot(...found.map((value, i) => value - wanted[i]!)) / Math.hypot(...wanted);
  return distance < TOLERANCE ? null : `they err by ${distance} where plain products do not`;
}

function attempt<Value>(run: () => Value): Value | Error {
  try {
    return run();
  } catch (error) {
    return error as Error;
  }
}

/** One line of what Dawn says: the error, where warnings come before it. */
function complaintOf(message: string): string {
  const lines = message.split('\n');
  return lines.find((line) => line.includes('error: ')) ?? lines[0]!;
}
