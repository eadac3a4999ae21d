/** Inputs as a graph would bring them. Pure: workerd runs it too. */
import type { Activation, Backend, Batch, DenseWeight, GptqWeight } from '../../core/model/backend.ts';
import { gaussian, random } from './oracle.ts';

/** Around every tile: 1, 2 and 4 tokens. */
export const ROW_COUNTS = [1, 2, 3, 4, 5, 15, 16, 17, 33];

export function gaussians(count: number, seed: number): Float32Array {
  return new Float32Array(count).map(gaussian(seed));
}

export function denseOf(values: Float32Array, inFeatures: number, bias: Float32Array | null = null): DenseWeight {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { kind: 'dense', outFeatures: values.length / inFeatures, inFeatures, dtype: 'f32', bytes, bias };
}

/** Tokens 0..count−1, each in its own sequence at position 0. */
export function tokensBatch(count: number): Batch {
  return {
    tokenIds: Int32Array.from({ length: count }, (_, i) => i),
    positions: new Int32Array(count),
    slots: new Int32Array(count),
    sequenceOf: new Int32Array(count),
    pageTables: new Int32Array(1),
    maxPages: 1,
    outputRows: new Int32Array(0),
  };
}

/** Brings `values` [rows, cols] in, in the step begun with at least `rows` tokens. */
export async function place(backend: Backend, values: Float32Array, cols: number): Promise<Activation> {
  const table = await backend.loadLinear(denseOf(values, cols), 'input');
  const x = backend.embed(table);
  return x.rows === values.length / cols
    ? x
    : backend.gatherRows(
        x,
        Int32Array.from({ length: values.length / cols }, (_, i) => i),
      );
}

/** y of a linear over x [rows, in] in a step of its own. */
export async function runLinear(
  backend: Backend,
  weight: DenseWeight | GptqWeight,
  x: Float32Array,
): Promise<Float32Array> {
  const linear = await backend.loadLinear(weight, 'weight');
  backend.begin(tokensBatch(x.length / weight.inFeatures));
  return backend.read(backend.linear(await place(backend, x, weight.inFeatures), linear));
}

export interface GptqOptions {
  outFeatures: number;
  inFeatures: number;
  groupSize: number;
  sym: boolean;
  bias?: boolean;
  zeroOffset?: 0 | 1;
  seed?: number;
}

/** Random nibbles, scales of either sign in the normal range, zeros 8 or anything. */
export function gptqOf(options: GptqOptions): GptqWeight {
  const { outFeatures, inFeatures, groupSize, sym, bias = false, zeroOffset = 1, seed = 1 } = options;
  const next = random(seed);
  const word = () => (next() * 2 ** 32) | 0;
  const groups = Math.ceil(inFeatures / groupSize);
  return {
    kind: 'gptq',
    outFeatures,
    inFeatures,
    bits: 4,
    groupSize,
    qweight: new Int32Array((inFeatures / 8) * outFeatures).map(word),
    qzeros: new Int32Array(groups * Math.ceil(outFeatures / 8)).map(() =>
      sym ? (zeroOffset === 1 ? 0x77777777 : 0x88888888 | 0) : word(),
    ),
    zeroOffset,
    // 2^-7 to 2^-5
    scales: new Uint16Array(groups * outFeatures).map(() => (next() < 0.1 ? 0x8000 : 0) | (0x2000 + next() * 0x800)),
    gIdx: null,
    bias: bias ? gaussians(outFeatures, seed + 1) : null,
  };
}
