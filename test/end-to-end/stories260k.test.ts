import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sharedData } from '../shared-data.ts';
import { RunningEdge } from './running-edge.ts';

const MODEL = sharedData('stories260k');

describe.skipIf(MODEL === null)('stories260k behind the edge', () => {
  let edge: RunningEdge;
  let golden: {
    greedy_200: { text: string };
    cases: { prompt: string; greedy_text: string; greedy_new_ids: number[] }[];
  };
  beforeAll(async () => {
    edge = await RunningEdge.start(['--model-id', MODEL!]);
    golden = JSON.parse(await readFile(join(MODEL!, 'golden.json'), 'utf8'));
  });
  afterAll(async () => {
    await edge?.stop();
  });

  test('/v1/completions gives the golden 200 tokens, from ids', async () => {
    expect(edge.models).toEqual(['stories260k']);
    const response = await edge.post('/v1/completions', {
      model: 'stories260k',
      prompt: [1],
      max_tokens: 200,
      temperature: 0,
    });
    const answer = await response.json();
    expect(answer.choices[0].text).toBe(golden.greedy_200.text);
    expect(answer.usage).toMatchObject({ prompt_tokens: 1, completion_tokens: 200 });
  });

  test('/generate and /v1/completions give the golden continuations of texts', async () => {
    for (const { prompt, greedy_text, greedy_new_ids } of golden.cases) {
      const max = greedy_new_ids.length;
      const generated = await (
        await edge.post('/generate', {
          inputs: prompt,
          parameters: { max_new_tokens: max, details: true, return_full_text: true },
        })
      ).json();
      expect(generated.generated_text).toBe(greedy_text);
      expect(generated.details.tokens.map(({ id }: { id: number }) => id)).toEqual(greedy_new_ids);
      const completed = await (await edge.post('/v1/completions', { prompt, max_tokens: max, temperature: 0 })).json();
      expect(prompt + completed.choices[0].text).toBe(greedy_text);
    }
  });
});
