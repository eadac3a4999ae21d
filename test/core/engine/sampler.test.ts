import { describe, expect, test } from 'vitest';
import { RowSampler } from '../../../core/engine/row-sampler.ts';
import {
  allCandidates,
  candidatesFor,
  logprobOf,
  resolveSampling,
  type Sampled,
  type Sampling,
  sample as sampleCandidates,
} from '../../../core/engine/sampler.ts';
import type { Activation, Backend } from '../../../core/model/backend.ts';
import { topLogits } from '../../../core/model/top-logits.ts';

const greedy: Sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
const logits = Float32Array.from([1, 3, 2, 3, -1]);

function sample(row: Float32Array, sampling: Sampling, position: number, topLogprobs: number): Sampled {
  return sampleCandidates(allCandidates(row, sampling), sampling, position, topLogprobs)!;
}

/** How often each id comes, over many positions. */
function frequencies(row: Float32Array, sampling: Sampling, draws = 20_000): number[] {
  const counts = new Array<number>(row.length).fill(0);
  for (let position = 0; position < draws; position++) counts[sample(row, sampling, position, 0).id]!++;
  return counts.map((count) => count / draws);
}

function softmax(row: readonly number[], temperature: number): number[] {
  const weights = row.map((logit) => Math.exp(logit / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

test('what a job leaves open the model decides, what it says wins', () => {
  const model = { temperature: 0.6, topK: 40, topP: 0.9 };
  expect(resolveSampling({ temperature: null, topK: null, topP: null, seed: 3 }, model)).toEqual({ ...model, seed: 3 });
  expect(resolveSampling({ temperature: 0, topK: 0, topP: 1, seed: 3 }, model)).toEqual({ ...greedy, seed: 3 });
});

describe('sample', () => {
  test('greedy takes the highest logit, the lowest id among equals', () => {
    expect(sample(logits, greedy, 0, 0).id).toBe(1);
  });

  test('the log probability is the model’s own, whatever the temperature', () => {
    const expected = Math.log(softmax([...logits], 1)[1]!);
    expect(sample(logits, greedy, 0, 0).logprob).toBeCloseTo(expected, 6);
    expect(logprobOf(logits, 1)).toBeCloseTo(expected, 6);
  });

  test('draws follow the softmax at the temperature', () => {
    const expected = softmax([...logits], 0.7);
    // 20,000 draws: standard deviation at most 0.0036; four of them.
    frequencies(logits, { ...greedy, temperature: 0.7, seed: 5 }).forEach((frequency, id) => {
      expect(Math.abs(frequency - expected[id]!)).toBeLessThan(0.0145);
    });
  });

  test('top-k keeps the k likeliest, lower ids first among equals', () => {
    const counts = frequencies(logits, { ...greedy, temperature: 1, topK: 1 });
    expect(counts).toEqual([0, 1, 0, 0, 0]);
    expect(frequencies(logits, { ...greedy, temperature: 1, topK: 2 }).map((f) => f > 0)).toEqual([
      false,
      true,
      false,
      true,
      false,
    ]);
  });

  test('top-p keeps the smallest set that reaches p', () => {
    // Probabilities: 0.397, 0.397, 0.146, 0.054, 0.007.
    expect(frequencies(logits, { ...greedy, temperature: 1, topP: 0.3 }).map((f) => f > 0)).toEqual([
      false,
      true,
      false,
      false,
      false,
    ]);
    expect(frequencies(logits, { ...greedy, temperature: 1, topP: 0.5 }).map((f) => f > 0)).toEqual([
      false,
      true,
      false,
      true,
      false,
    ]);
    expect(frequencies(logits, { ...greedy, temperature: 1, topP: 0.93 }).map((f) => f > 0)).toEqual([
      false,
      true,
      true,
      true,
      false,
    ]);
  });

  test('the few of many are the same as after a whole sort', () => {
    const many = Float32Array.from({ length: 5000 }, (_, i) => Math.fround(Math.sin(i * i) * 4));
    const sorted = Array.from(many.keys()).sort((a, b) => many[b]! - many[a]! || a - b);
    expect(sample(many, greedy, 0, 20).top.map(({ id }) => id)).toEqual(sorted.slice(0, 20));
  });

  test('the same seed and position draw the same, in any order of calls', () => {
    const sampling = { ...greedy, temperature: 1, seed: 99 };
    const forward = [0, 1, 2, 3].map((position) => sample(logits, sampling, position, 0).id);
    const backward = [3, 2, 1, 0].map((position) => sample(logits, sampling, position, 0).id).reverse();
    expect(backward).toEqual(forward);
  });

  test('a logit that is not a number is a named failure, not a token', () => {
    expect(() => sample(Float32Array.from([0, Number.NaN]), greedy, 0, 0)).toThrow('the logits sum to exp(NaN)');
    expect(() => sample(Float32Array.from([-Infinity, -Infinity]), greedy, 0, 0)).toThrow(
      'the logits sum to exp(-Infinity)',
    );
  });

  test('minus infinity masks a token', () => {
    expect(frequencies(Float32Array.from([0, -Infinity, 0]), { ...greedy, temperature: 1 })[1]).toBe(0);
  });
});

describe('a draw from the likeliest of many', () => {
  const vocab = 5000;
  const flat = Float32Array.from({ length: vocab }, (_, i) => Math.fround(Math.sin(i * i) * 4));
  const peaked = Float32Array.from(flat, (logit, i) => (i % 700 === 3 ? logit + 14 : logit));
  /** A backend that has these logits, and counts how often a whole row was read. */
  const over = async (row: Float32Array, sampling: Sampling, position: number, topLogprobs = 0) => {
    let reads = 0;
    const logits: Activation = { rows: 1, cols: vocab };
    const backend = {
      top: async (_: Activation, count: number, temperatures: Float32Array) =>
        topLogits(row, 1, vocab, count, temperatures),
      read: async () => {
        reads++;
        return row;
      },
    } as unknown as Backend;
    const sampler = await RowSampler.over(backend, logits, [{ sampling, topLogprobs, position }]);
    return { sampled: await sampler.sample(0), reads };
  };
  const samplings: Partial<Sampling>[] = [
    { temperature: 0 },
    { temperature: 0.8 },
    { temperature: 1, topK: 40 },
    { temperature: 1, topK: 200 },
    { temperature: 1.3, topP: 0.9 },
    { temperature: 0.7, topK: 50, topP: 0.8 },
  ];

  test.each(samplings)('%o gives what the whole row gives', async (some) => {
    for (const row of [flat, peaked])
      for (let position = 0; position < 50; position++) {
        const sampling = { ...greedy, seed: 3, ...some };
        const { sampled } = await over(row, sampling, position, 5);
        const whole = sample(row, sampling, position, 5);
        expect(sampled.id).toBe(whole.id);
        expect(sampled.top.map(({ id }) => id)).toEqual(whole.top.map(({ id }) => id));
        expect(Math.abs(sampled.logprob - whole.logprob)).toBeLessThan(1e-5);
      }
  });

  test('reads the row only where the likeliest cannot decide', async () => {
    expect((await over(flat, greedy, 0)).reads).toBe(0);
    expect((await over(flat, { ...greedy, temperature: 1, topK: 64 }, 0)).reads).toBe(0);
    expect((await over(peaked, { ...greedy, temperature: 0.7, topP: 0.9 }, 0)).reads).toBe(0);
    expect((await over(flat, { ...greedy, temperature: 1, topP: 0.9 }, 0)).reads).toBe(1);
    expect((await over(flat, { ...greedy, temperature: 1, topK: 65 }, 0)).reads).toBe(1);
  });

  test('asks for one candidate when greedy, k for top-k, never more than 64 for a draw', () => {
    expect(candidatesFor(greedy, 0)).toBe(1);
    expect(candidatesFor(greedy, 20)).toBe(20);
    expect(candidatesFor({ ...greedy, temperature: 1, topK: 40 }, 0)).toBe(40);
    expect(candidatesFor({ ...greedy, temperature: 1, topK: 100 }, 0)).toBe(64);
    expect(candidatesFor({ ...greedy, temperature: 1 }, 0)).toBe(64);
  });
});
