import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Scorer } from '../../core/engine/scorer.ts';
import { Options } from '../../gpu-worker/command-line.ts';
import { loadModel } from '../../gpu-worker/loader.ts';
import { nibble } from '../end-to-end/running-edge.ts';
import { sharedData } from '../shared-data.ts';

const MODEL = sharedData('stories260k');
const STORIES = sharedData('text/tinystories-1000.json');

interface Golden {
  greedy_200: { input_ids: number[]; new_ids: number[]; text: string };
  cases: {
    prompt: string;
    input_ids: number[];
    prompt_logprobs: (number | null)[];
    last_logits: number[];
    greedy_new_ids: number[];
    greedy_text: string;
  }[];
  perplexity: { tokens: number; mean_nll: number };
}

/** Logits of transformers in f32: the f64 sums of the reference differ by its rounding, SIMD sums by their order. */
const TOLERANCE = { reference: 1e-4, wasm: 1e-3 } as const;

describe.skipIf(MODEL === null).each(['reference', 'wasm'] as const)('stories260k on %s', (backend) => {
  const golden = async (): Promise<Golden> => JSON.parse(await readFile(join(MODEL!, 'golden.json'), 'utf8'));

  test('generates the golden 200 tokens and text', async () => {
    const { greedy_200 } = await golden();
    const { code, stdout, stderr } = await nibble([
      'generate',
      '--model-id',
      MODEL!,
      '--ids',
      '1',
      '--max-new-tokens',
      '200',
      '--backend',
      backend,
      '--json',
    ]);
    expect([code, stderr]).toEqual([0, '']);
    const answer = JSON.parse(stdout);
    expect(answer.prompt_ids).toEqual([1]);
    expect(answer.ids).toEqual(greedy_200.new_ids);
    expect(answer.text).toBe(greedy_200.text);
    expect([answer.backend, answer.finish_reason]).toEqual([backend, 'length']);
  });

  test('logits, prompt log probabilities and greedy continuations are golden', async () => {
    const model = await loadModel(
      new Options(
        [],
        new Map([
          ['model-id', MODEL!],
          ['backend', backend],
        ]),
      ),
    );
    // As transformers keeps keys and values: f16 pages would be most of the difference.
    const scorer = new Scorer(model.graph, model.config.contextTokens, 'f32');
    for (const { prompt, input_ids, prompt_logprobs, last_logits } of (await golden()).cases) {
      expect(model.tokenizer.encode(prompt, 'add')).toEqual(input_ids);
      let worst = 0;
      await scorer.logits(input_ids, (row, position) => {
        if (position === input_ids.length - 1)
          worst = Math.max(...last_logits.map((logit, id) => Math.abs(logit - row[id]!)));
      });
      expect(worst).toBeLessThan(TOLERANCE[backend]);
      const logprobs = await scorer.logprobs(input_ids);
      const expected = prompt_logprobs.filter((logprob) => logprob !== null).slice(-logprobs.length);
      const differences = logprobs.map((logprob, i) => Math.abs(logprob - expected[i]!));
      expect(Math.max(...differences)).toBeLessThan(TOLERANCE[backend]);
    }
    await model.backend.dispose();
  });

  test.skipIf(STORIES === null)('perplexity of the first 20 stories', async () => {
    const { code, stdout } = await nibble([
      'perplexity',
      '--model-id',
      MODEL!,
      '--file',
      STORIES!,
      '--limit',
      '20',
      '--backend',
      backend,
      '--json',
    ]);
    expect(code).toBe(0);
    const { tokens, mean_nll } = JSON.parse(stdout);
    const { perplexity } = await golden();
    expect(tokens).toBe(perplexity.tokens);
    expect(Math.abs(mean_nll - perplexity.mean_nll)).toBeLessThan(0.0005);
  });
});
