/** Op cases: every op over a pool of 33 rows, cut into steps of any size. Inputs use no transcendental function, so all machines see the same. */
import type { ActivationFunction, AttentionOptions, Backend, GptqWeight, KvDtype } from '../../core/model/backend.ts';
import { bnb4Of, denseOf, gptqOf, int8Of, place, tokensBatch } from './inputs.ts';
import { random } from './oracle.ts';

export const POOL_ROWS = 33;

/** Runs rows [from, from + count) as one step and returns their output. Steps come in order. */
export type RunStep = (from: number, count: number) => Promise<Float32Array>;

export interface OpCase {
  name: string;
  prepare(backend: Backend): Promise<RunStep>;
}

/** The pool's whole output when its rows come in steps of these sizes. */
export async function runInSteps(op: OpCase, backend: Backend, sizes: number[]): Promise<Float32Array> {
  const run = await op.prepare(backend);
  const parts: Float32Array[] = [];
  let from = 0;
  for (const count of sizes) {
    parts.push(await run(from, count));
    from += count;
  }
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Uniform in [−2, 2), some rows all negative. */
function pool(cols: number, seed: number): Float32Array {
  const next = random(seed);
  return new Float32Array(POOL_ROWS * cols).map((_, i) => {
    const value = next() * 4 - 2;
    return Math.floor(i / cols) % 5 === 4 ? -Math.abs(value) : value;
  });
}

const rows = (values: Float32Array, cols: number, from: number, count: number) =>
  values.slice(from * cols, (from + count) * cols);

function linearCase(name: string, weight: Parameters<Backend['loadLinear']>[0]): OpCase {
  return {
    name,
    prepare: async (backend) => {
      const linear = await backend.loadLinear(weight, name);
      const x = pool(weight.inFeatures, 1);
      return async (from, count) => {
        backend.begin(tokensBatch(count));
        const step = await place(backend, rows(x, weight.inFeatures, from, count), weight.inFeatures);
        return backend.read(backend.linear(step, linear));
      };
    },
  };
}

function gptqCase(name: string, weight: GptqWeight): OpCase {
  const next = random(99);
  const bias = new Float32Array(weight.outFeatures).map(() => next() - 0.5);
  return linearCase(name, { ...weight, bias });
}

function normCase(): OpCase {
  const cols = 70;
  return {
    name: 'addRmsNorm',
    prepare: async (backend) => {
      const weight = backend.loadVector(pool(cols, 3).subarray(0, cols), 'norm');
      const [x, residual] = [pool(cols, 4), pool(cols, 5)];
      return async (from, count) => {
        backend.begin(tokensBatch(count));
        const onResidual = await place(backend, rows(residual, cols, from, count), cols);
        const first = backend.rmsNorm(onResidual, weight, 1e-6);
        const onX = await place(backend, rows(x, cols, from, count), cols);
        return backend.read(backend.addRmsNorm(first, onX, weight, 1e-5));
      };
    },
  };
}

function layerNormCase(): OpCase {
  const cols = 70;
  return {
    name: 'layerNorm',
    prepare: async (backend) => {
      const weight = backend.loadVector(pool(cols, 3).subarray(0, cols), 'norm');
      const bias = backend.loadVector(pool(cols, 8).subarray(0, cols), 'norm');
      const x = pool(cols, 4);
      return async (from, count) => {
        backend.begin(tokensBatch(count));
        const onX = await place(backend, rows(x, cols, from, count), cols);
        backend.add(onX, backend.layerNorm(onX, weight, null, 1e-5));
        return backend.read(backend.layerNorm(onX, weight, bias, 1e-6));
      };
    },
  };
}

function activationCase(f: ActivationFunction): OpCase {
  const cols = 45;
  return {
    name: `gated and activate ${f}`,
    prepare: async (backend) => async (from, count) => {
      backend.begin(tokensBatch(count));
      const gate = pool(cols, 6).map((value) => value * 20);
      const onGate = await place(backend, rows(gate, cols, from, count), cols);
      const onUp = await place(backend, rows(pool(cols, 7), cols, from, count), cols);
      const y = backend.gated(f, onGate, onUp);
      backend.add(y, backend.activate(f, onUp));
      return backend.read(y);
    },
  };
}

function movesCase(): OpCase {
  const cols = 18;
  return {
    name: 'embed, columns, reshape',
    prepare: async (backend) => {
      const table = await backend.loadLinear(denseOf(pool(cols, 8), cols), 'table');
      return async (from, count) => {
        backend.begin(tokensBatch(count));
        const x = backend.embed(
          table,
          Int32Array.from({ length: count }, (_, i) => from + i),
          1.7,
        );
        const heads = backend.reshape(x, count * 3, 6);
        return backend.read(backend.columns(backend.reshape(heads, count, cols), [{ begin: 5, count: 9 }]));
      };
    },
  };
}

/** Two sequences, 20 and 13 tokens, in pages of 6: a step may hold a decode of one and a prefill of the other. */
function attentionCase(
  name: string,
  scores: Omit<AttentionOptions, 'heads' | 'scale'>,
  dtype: KvDtype = 'f32',
): OpCase {
  const [heads, kvHeads, headDim, pageTokens] = [4, 2, 20, 6];
  const sequenceOf = (token: number) => (token < 20 ? 0 : 1);
  const positionOf = (token: number) => (token < 20 ? token : token - 20);
  const pageTables = Int32Array.of(5, 2, 7, 0, 3, 6, 1, 4);
  return {
    name,
    prepare: async (backend) => {
      backend.allocateKv({ layers: 1, kvHeads, headDim, pages: 8, pageTokens, dtype });
      const [q, k, v] = [pool(heads * headDim, 8), pool(kvHeads * headDim, 9), pool(kvHeads * headDim, 10)];
      const [cos, sin] = [pool(5, 11), pool(5, 12)];
      return async (from, count) => {
        const tokens = Array.from({ length: count }, (_, i) => from + i);
        backend.begin({
          ...tokensBatch(count),
          positions: Int32Array.from(tokens, positionOf),
          sequenceOf: Int32Array.from(tokens, sequenceOf),
          slots: Int32Array.from(tokens, (token) => {
            const page = pageTables[sequenceOf(token) * 4 + Math.floor(positionOf(token) / pageTokens)]!;
            return page * pageTokens + (positionOf(token) % pageTokens);
          }),
          pageTables,
          maxPages: 4,
        });
        const rotary = backend.rope(rows(cos, 5, from, count), rows(sin, 5, from, count), 10);
        const onQ = await place(backend, rows(q, heads * headDim, from, count), heads * headDim);
        const onK = await place(backend, rows(k, kvHeads * headDim, from, count), kvHeads * headDim);
        const onV = await place(backend, rows(v, kvHeads * headDim, from, count), kvHeads * headDim);
        backend.ropeKv(0, onQ, onK, onV, rotary);
        return backend.read(backend.attention(0, onQ, { heads, scale: 0.4, ...scores }));
      };
    },
  };
}

/** Linears of one input that quantize alike and differently, a gated pair, a cap, and the likeliest of the result. */
function fusedCase(): OpCase {
  const cols = 160;
  return {
    name: 'linears, gatedLinear, softcap, top',
    prepare: async (backend) => {
      const load = (weight: Parameters<Backend['loadLinear']>[0]) => backend.loadLinear(weight, 'weight');
      const shape = { outFeatures: 29, inFeatures: cols, sym: true };
      const [a, b, c] = [
        await load(gptqOf({ ...shape, groupSize: 32 })),
        await load(gptqOf({ ...shape, groupSize: 160, bits: 3 })),
        await load(gptqOf({ ...shape, groupSize: 32, bits: 8 })),
      ];
      const table = await load(gptqOf({ outFeatures: POOL_ROWS, inFeatures: cols, groupSize: 32, sym: false }));
      return async (from, count) => {
        backend.begin(tokensBatch(count));
        const ids = Int32Array.from({ length: count }, (_, i) => from + i);
        const x = backend.embed(table, ids, 0.7);
        const [first, second, third] = backend.linears(x, [a, b, c]);
        backend.add(first!, second!);
        backend.add(first!, third!);
        backend.add(first!, backend.gatedLinear('silu', x, a, b));
        backend.softcap(first!, 5);
        const {
          ids: best,
          logits,
          logTotals,
          scaledLogTotals,
        } = await backend.top(
          first!,
          3,
          Float32Array.from({ length: count }, () => 0.8),
        );
        const values = await backend.read(first!);
        const row = (i: number) => [
          ...values.subarray(i * 29, (i + 1) * 29),
          ...best.subarray(i * 3, (i + 1) * 3),
          ...logits.subarray(i * 3, (i + 1) * 3),
          logTotals[i]!,
          scaledLogTotals[i]!,
        ];
        return Float32Array.from(Array.from({ length: count }, (_, i) => row(i)).flat());
      };
    },
  };
}

const half = random(13);
const halfBits = new Uint16Array(30 * 70).map(() => (half() < 0.5 ? 0x8000 : 0) | (half() * 0x4000));

const ODD = { outFeatures: 29, inFeatures: 172 };

export const OP_CASES: OpCase[] = [
  linearCase('dense f32', denseOf(pool(70, 2).subarray(0, 30 * 70), 70)),
  linearCase('dense f16', {
    kind: 'dense',
    outFeatures: 30,
    inFeatures: 70,
    dtype: 'f16',
    bytes: new Uint8Array(halfBits.buffer),
    bias: null,
  }),
  gptqCase('gptq sym', gptqOf({ outFeatures: 29, inFeatures: 328, groupSize: 64, sym: true })),
  gptqCase('gptq asym', gptqOf({ outFeatures: 40, inFeatures: 256, groupSize: 32, sym: false })),
  gptqCase('gptq asym, one group', gptqOf({ outFeatures: 16, inFeatures: 1024, groupSize: 1024, sym: false })),
  gptqCase('gptq 2 bits, group 100', gptqOf({ outFeatures: 29, inFeatures: 328, groupSize: 100, bits: 2, sym: false })),
  gptqCase('gptq 3 bits, act-order', gptqOf({ ...ODD, groupSize: 32, bits: 3, sym: false, actOrder: true })),
  gptqCase('gptq 4 bits, act-order, group 16', gptqOf({ ...ODD, groupSize: 16, sym: true, actOrder: true })),
  gptqCase('gptq 8 bits', gptqOf({ ...ODD, groupSize: 64, bits: 8, sym: false })),
  linearCase('nf4', bnb4Of(pool(256, 9), 256, { quantType: 'nf4', blockSize: 64, nested: true })),
  linearCase('fp4, blocks over rows', bnb4Of(pool(160, 9), 160, { quantType: 'fp4', blockSize: 64 })),
  linearCase('nf4, blocks inside chunks', bnb4Of(pool(75, 9), 75, { quantType: 'nf4', blockSize: 64 })),
  linearCase('int8', int8Of(pool(157, 9), 157, 0)),
  linearCase('int8 with outliers', int8Of(pool(157, 9), 157, 1.9, pool(1, 10).subarray(0, POOL_ROWS))),
  normCase(),
  layerNormCase(),
  activationCase('relu'),
  activationCase('gelu'),
  activationCase('gelu_tanh'),
  activationCase('silu'),
  movesCase(),
  attentionCase('ropeKv and attention', { window: null, softcap: null, alibiSlopes: null }),
  attentionCase('f16 ropeKv and attention', { window: null, softcap: null, alibiSlopes: null }, 'f16'),
  attentionCase('int8 ropeKv and attention', { window: 9, softcap: null, alibiSlopes: null }, 'int8'),
  fusedCase(),
  attentionCase('ropeKv and attention with a window, a cap and ALiBi', {
    window: 8,
    softcap: 1.5,
    alibiSlopes: Float32Array.of(0.5, 0.25, 0.125, 0.0625),
  }),
];
