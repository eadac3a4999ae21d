import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Engine } from '../../core/engine/engine.ts';
import { Scorer } from '../../core/engine/scorer.ts';
import type { Job } from '../../core/protocol.ts';
import type { LoadedModel } from '../../gpu-worker/loader.ts';
import { loadDemo } from './demo-model.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures', 'demo');

interface GoldenCase {
  messages?: { role: string; content: string }[];
  rendered: string;
  inputIds: number[];
  lastLogits: number[];
  greedyIds: number[];
  /** How far the top logit is above the next. */
  greedyMargins: number[];
}

async function golden(variant: string): Promise<GoldenCase[]> {
  return Object.values(JSON.parse(await readFile(join(FIXTURES, 'golden.json'), 'utf8'))[variant]);
}

function topOf(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
}

interface Answer {
  promptIds: readonly number[];
  ids: number[];
  text: string;
}

/** Asks the model, greedy; one a model, because an engine takes the backend's key/value pages. */
function asker(model: LoadedModel): (question: string, maxNewTokens: number) => Promise<Answer> {
  const engine = new Engine(model.graph, model.tokenizer, model.template, {
    maxBatchTokens: 512,
    maxSequences: 1,
    maxCachedTokens: 512,
  });
  const job: Omit<Job, 'input' | 'maxNewTokens'> = {
    id: 'test',
    model: 'demo',
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
    truncatePromptTokens: null,
    stop: [],
    stopText: 'drop',
    eos: 'stop',
    topLogprobs: 0,
    promptTokenLimit: 512,
  };
  return async (question, maxNewTokens) => {
    const accepted = engine.add(
      { ...job, input: { kind: 'chat', messages: [{ role: 'user', content: question }] }, maxNewTokens },
      [],
    );
    if ('code' in accepted) throw new Error(JSON.stringify(accepted));
    const ids: number[] = [];
    let text = '';
    while (engine.numJobs > 0)
      for (const event of await engine.step()) {
        if (event.kind === 'failed') throw new Error(JSON.stringify(event.failure));
        if (event.kind === 'token') ids.push(event.token.id);
        text += event.kind === 'token' ? event.token.text : event.text;
      }
    return { promptIds: accepted.promptIds, ids, text };
  };
}

const STORIES = [
  'Tell me a story about a fox named Milo',
  'Tell me a story about a rabbit named Luna.',
  'Write a story about an owl called Bruno',
  'What is Nibble?',
  'Tell me a story about a bear named Pip',
];

describe('the demo model', () => {
  // f32 sums in another order than transformers', through four layers of logits up to about 20. int4 on wasm also rounds activations.
  test.each([
    ['f16', 'reference', 1e-3],
    ['f16', 'wasm', 1e-3],
    ['gptq-int4', 'reference', 1e-3],
  ] as const)('%s on %s gives the logits and greedy ids of transformers', async (variant, backend, tolerance) => {
    const model = await loadDemo(variant, backend);
    // As transformers keeps keys and values: f16 pages would be most of the difference.
    const scorer = new Scorer(model.graph, 512, 'f32');
    for (const { messages, rendered, inputIds, lastLogits, greedyIds, greedyMargins } of await golden(variant)) {
      if (messages !== undefined) expect(model.template!.render(messages)).toBe(rendered);
      expect(model.tokenizer.encode(rendered, messages === undefined ? 'add' : 'none')).toEqual(inputIds);
      await scorer.logits([...inputIds, ...greedyIds], (row, position) => {
        const at = position - (inputIds.length - 1);
        if (at === 0)
          expect(Math.max(...lastLogits.map((logit, id) => Math.abs(logit - row[id]!)))).toBeLessThan(tolerance);
        // A near tie may fall either way.
        if (at >= 0 && at < greedyIds.length && greedyMargins[at]! > 2 * tolerance)
          expect(topOf(row)).toBe(greedyIds[at]);
      });
    }
    await model.backend.dispose();
  });

  test('tells a story about Milo the fox, and says what Nibble is', async () => {
    const model = await loadDemo('gptq-int4', 'wasm');
    const ask = asker(model);
    const story = await ask('Tell me a story about a fox named Milo', 400);
    expect(story.text).toMatch(/\bfox\b/);
    expect(story.text.match(/\bMilo\b/g)!.length).toBeGreaterThan(2);
    expect(story.text.trim()).toMatch(/[.!]$/);
    expect(model.config.eosTokenIds).toContain(story.ids.at(-1));
    expect((await ask('What is Nibble?', 200)).text).toMatch(/quantized language models/);
    await model.backend.dispose();
  });

  test('int4 on wasm and on reference agree on the top token, teacher-forced over the model’s own answers', async () => {
    const teller = await loadDemo('gptq-int4', 'wasm');
    const ask = asker(teller);
    const answers: Answer[] = [];
    for (const question of STORIES) answers.push(await ask(question, 250));
    await teller.backend.dispose();
    const tops = async (backend: 'wasm' | 'reference'): Promise<number[]> => {
      const model = await loadDemo('gptq-int4', backend);
      const scorer = new Scorer(model.graph, 512);
      const found: number[] = [];
      for (const { promptIds, ids } of answers)
        await scorer.logits([...promptIds, ...ids], (row, position) => {
          if (position >= promptIds.length - 1 && position < promptIds.length + ids.length - 1) found.push(topOf(row));
        });
      await model.backend.dispose();
      return found;
    };
    const [byWasm, byReference] = [await tops('wasm'), await tops('reference')];
    expect(byWasm.length).toBeGreaterThanOrEqual(500);
    const agreed = byWasm.filter((id, i) => id === byReference[i]).length;
    expect(agreed / byWasm.length).toBeGreaterThanOrEqual(0.99);
  });
});
