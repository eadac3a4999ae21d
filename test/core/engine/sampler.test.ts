import { describe, expect, test } from 'vitest';
import { logprobOf, resolveSampling, type Sampling, sample } from '../../../core/engine/sampler.ts';

const greedy: Sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
const logits = Float32Array.from([1, 3, 2, 3, -1]);

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
    expect(() => sample(Float32Array.from([0, Number.NaN]), greedy, 0, 0)).toThrow(
      'the logit of token 1 is not a number',
    );
    expect(() => sample(Float32Array.from([-Infinity, -Infinity]), greedy, 0, 0)).toThrow(
      'the highest logit is -Infinity',
    );
  });

  test('minus infinity masks a token', () => {
    expect(frequencies(Float32Array.from([0, -Infinity, 0]), { ...greedy, temperature: 1 })[1]).toBe(0);
  });
});
