/** MatrixCheck: products by subgroup matrices tried beside plain ones, since the feature is young and drivers differ. */
import type { DenseWeight } from '../../core/model/backend.ts';
import type { MatrixShape } from './device.ts';
import type { Gpu } from './gpu.ts';
import { PLAIN } from './linear-ends.ts';
import { LinearInputs } from './linear-inputs.ts';
import { planLinear } from './linear-plan.ts';
import { addRowFactors, multiply } from './linear-products.ts';
import type { Space } from './row-ops.ts';
import { Loading } from './weights/loading.ts';
import { loadDense } from './weights/rows.ts';

/** Enough for the largest tile, and nothing divides. */
const TRIAL = { tokens: 70, outFeatures: 75, inFeatures: 167 } as const;
/** Both factors rounded to 11 bits err by 3e-4. */
const TOLERANCE = 2e-3;

/** What is wrong with products of this shape on this device; null when nothing is. */
export async function matrixFault(space: Space, shape: MatrixShape): Promise<string | null> {
  const { gpu, activations } = space;
  const { tokens, inFeatures, outFeatures } = TRIAL;
  const loading = new Loading(gpu, 'trial of subgroup matrices', Number.POSITIVE_INFINITY);
  const weight = await loadDense(loading, trialWeight());
  await addRowFactors(loading, weight);
  await loading.finish();
  const x = activations.make(tokens, inFeatures);
  const ys = [activations.make(tokens, outFeatures), activations.make(tokens, outFeatures)] as const;
  gpu.write(x.buffer, 0, trialValues(tokens * inFeatures));
  // What is not written must not pass for right, as an earlier trial's result in the same buffer would.
  gpu.write(ys[1].buffer, 0, new Float32Array(tokens * outFeatures).fill(Number.NaN));
  const features = { subgroups: null, f16: true, matrices: null };
  const fault = await faultOf(gpu, () => {
    const inputs = new LinearInputs(space, x);
    multiply(space, x, inputs, weight, planLinear(weight, tokens, features, false), [ys[0].buffer], PLAIN);
    multiply(
      space,
      x,
      inputs,
      weight,
      planLinear(weight, tokens, { ...features, matrices: shape }, false),
      [ys[1].buffer],
      PLAIN,
    );
    inputs.release();
    return { plain: ys[0].buffer, matrices: ys[1].buffer };
  });
  for (const { buffer } of [x, ...ys]) activations.release(buffer);
  for (const { buffers, rowFactors } of weight.parts) for (const buffer of [...buffers, rowFactors!]) buffer.destroy();
  return fault;
}

/** The same numbers each time, within −1 to 1. */
function trialValues(count: number): Float32Array<ArrayBuffer> {
  let word = 1;
  return new Float32Array(count).map(() => {
    word = (Math.imul(word, 1664525) + 1013904223) | 0;
    return word / 2 ** 31;
  });
}

function trialWeight(): DenseWeight {
  const { outFeatures, inFeatures } = TRIAL;
  const bytes = new Uint8Array(trialValues(outFeatures * inFeatures).buffer);
  return { kind: 'dense', outFeatures, inFeatures, dtype: 'f32', bytes, bias: null };
}

/**
 * What is wrong with them, null when nothing is. `multiply` adds the dispatches of both and gives the two results; whatever the driver says to
 * them is caught, and no failure of the device.
 */
async function faultOf(gpu: Gpu, multiply: () => { plain: GPUBuffer; matrices: GPUBuffer }): Promise<string | null> {
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
