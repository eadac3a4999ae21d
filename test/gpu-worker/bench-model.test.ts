import { describe, expect, test } from 'vitest';
import { kvBytesPerToken } from '../../core/model/backend.ts';
import { openBackend } from '../../gpu-worker/backends.ts';
import { makeRandomModel } from '../../gpu-worker/bench/random-model.ts';
import { configOf, multipliedWeights, parseShape } from '../../gpu-worker/bench/shape.ts';
import { Steps } from '../../gpu-worker/bench/steps.ts';
import { formatLabel, type WeightFormat } from '../../gpu-worker/bench/weight-format.ts';

const shape = parseShape('64,2,96,4,2,320');
const F16: WeightFormat = { kind: 'dense', dtype: 'f16' };
const gptq = (rest: Partial<Extract<WeightFormat, { kind: 'gptq' }>> = {}): WeightFormat => {
  return { kind: 'gptq', bits: 4, groupSize: 32, sym: true, actOrder: false, ...rest };
};

async function openSteps(backendName: 'reference' | 'wasm', format: WeightFormat, head: WeightFormat = F16, seed = 1) {
  const backend = await openBackend({
    name: backendName,
    dtype: null,
    deterministic: false,
    matrices: false,
    threads: 1,
  });
  const graph = await makeRandomModel(backend, { shape, format, head, tied: false, contextTokens: 64, seed });
  const steps = new Steps(graph, { batch: 3, tokens: 40, chunkTokens: 16, kvDtype: backend.defaultKvDtype, seed: 1 });
  return { backend, graph, steps };
}

/** The tokens that three sequences choose after a prompt of 20, which takes two chunks. */
async function chosen(backendName: 'reference' | 'wasm', format: WeightFormat, seed = 1): Promise<number[][]> {
  const { backend, steps } = await openSteps(backendName, format, F16, seed);
  await steps.prefill(20, 3);
  const { ids } = await steps.decode(20, 16, 3);
  await backend.dispose();
  return ids;
}

describe('a random model', () => {
  test('of plain weights decodes to the same tokens on wasm as on reference', async () => {
    const ids = await chosen('reference', F16);
    expect(ids).toHaveLength(16);
    // Else the model says one thing whatever it reads, and any two backends would agree.
    expect(new Set(ids.flat()).size).toBeGreaterThan(8);
    expect(await chosen('wasm', F16)).toEqual(ids);
  });

  test.each([
    gptq(),
    gptq({ bits: 8, groupSize: null, sym: false }),
    gptq({ bits: 3, actOrder: true }),
    gptq({ bits: 2 }),
    { kind: 'nf4' },
    { kind: 'fp4' },
    { kind: 'int8' },
  ] satisfies WeightFormat[])(
    'of $kind $bits bits has the same first logits on wasm as on reference, but for rounded activations',
    async (format) => {
      const logits = async (backendName: 'reference' | 'wasm') => {
        const { backend, graph } = await openSteps(backendName, format);
        const row = await graph.forward({
          tokenIds: Int32Array.of(7),
          positions: Int32Array.of(0),
          slots: Int32Array.of(0),
          sequenceOf: Int32Array.of(0),
          pageTables: Int32Array.of(0),
          maxPages: 1,
          outputRows: Int32Array.of(0),
          plannedTokens: Int32Array.of(1),
        });
        await backend.dispose();
        return row;
      };
      const [expected, actual] = [await logits('reference'), await logits('wasm')];
      const norm = (values: Float32Array) => Math.hypot(...values);
      expect(norm(expected)).toBeGreaterThan(1);
      // Two layers, each product rounding its activations to 1 in 127 of a group's largest: about 0.5% a product.
      expect(norm(actual.map((value, i) => value - expected[i]!)) / norm(expected)).toBeLessThan(0.05);
    },
  );

  test('is another one for another seed, and the same for the same', async () => {
    const ids = await chosen('wasm', gptq());
    expect(await chosen('wasm', gptq())).toEqual(ids);
    expect(await chosen('wasm', gptq(), 2)).not.toEqual(ids);
  });
});

describe('bytes read a token', () => {
  /** q, o [64, 64], k, v [32, 64], gate, up [96, 64], down [64, 96], twice; the head [320, 64]. */
  const layers = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64);
  const head = 320 * 64;

  test('are those of layers and head, not of the embedding', async () => {
    expect(multipliedWeights(shape)).toBe(layers + head);
    // 14 matrices of 16 bits and the head, on reference f32.
    const { backend, steps } = await openSteps('reference', F16);
    expect(steps.stepBytes(0, 1, 1).weights).toBe(4 * (layers + head));
    await backend.dispose();
  });

  test('of 4 bits in groups of 32 are 4.5 bits a weight, and what lies beside them', async () => {
    const { backend, steps } = await openSteps('wasm', gptq(), gptq());
    const { weights } = steps.stepBytes(0, 1, 1);
    const least = ((layers + head) * 4.5) / 8;
    expect(weights).toBeGreaterThanOrEqual(least);
    // Biases of zeros and the plan of groups: much of a matrix of 64 inputs, nothing of one of 4,096.
    expect(weights).toBeLessThan(least * 1.3);
    await backend.dispose();
  });

  test('of keys and values are those of the mean place, for each sequence', async () => {
    const { backend, graph, steps } = await openSteps('wasm', gptq());
    const perToken = kvBytesPerToken({ ...graph.config, dtype: backend.defaultKvDtype });
    expect(perToken).toBe(2 * 2 * 2 * 16 * 4);
    // Steps at places 10, 11 and 12 see 11, 12 and 13 tokens.
    expect(steps.stepBytes(10, 3, 1).keyValues).toBe(12 * perToken);
    expect(steps.stepBytes(10, 3, 3).keyValues).toBe(3 * 12 * perToken);
    await backend.dispose();
  });
});

test('a shape is a Llama with that config', () => {
  const config = configOf(parseShape('4096,32,14336,32,8,128256'), 2048);
  expect([config.headDim, config.kvHeads, config.intermediate, config.contextTokens]).toEqual([128, 8, 14336, 2048]);
});

test('formats have short names', () => {
  expect([gptq(), gptq({ bits: 2, groupSize: null, sym: false, actOrder: true }), F16].map(formatLabel)).toEqual([
    'gptq4-g32',
    'gptq2-asym-act-order',
    'f16',
  ]);
});
