/** stories260k on WebGPU in f32 gives the golden ids of transformers. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Engine } from '../../core/engine/engine.ts';
import { loadModelOn } from '../../gpu-worker/loader.ts';
import { openLocalModel } from '../../gpu-worker/store/local.ts';
import { uncached } from '../../gpu-worker/store/weights-cache.ts';
import { sharedData } from '../shared-data.ts';
import { openBackend } from './gpu-under-test.ts';

const MODEL = sharedData('stories260k');

test.skipIf(MODEL === null)('generates the golden 200 tokens', async () => {
  const { greedy_200 } = JSON.parse(await readFile(join(MODEL!, 'golden.json'), 'utf8'));
  const load = { quantize: null, headBits: 16, text: 'needed' } as const;
  const model = await loadModelOn(
    MODEL!,
    async () => uncached(await openLocalModel(MODEL!)),
    load,
    () => openBackend({ precision: 'f32' }),
  );
  const engine = new Engine(model.graph, model.tokenizer, null, {
    maxBatchTokens: 64,
    maxSequences: 1,
    maxCachedTokens: 512,
    kvDtype: 'f32',
  });
  const accepted = engine.add(
    {
      id: 'golden',
      model: 'stories260k',
      input: { kind: 'ids', ids: greedy_200.input_ids },
      sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
      maxNewTokens: 200,
      truncatePromptTokens: null,
      stop: [],
      stopText: 'drop',
      eos: 'ignore',
      topLogprobs: 0,
      promptTokenLimit: 512,
    },
    [],
  );
  expect(accepted).not.toHaveProperty('code');
  const ids: number[] = [];
  while (engine.numJobs > 0)
    for (const event of await engine.step()) if (event.kind === 'token') ids.push(event.token.id);
  await model.backend.dispose();
  expect(ids).toEqual(greedy_200.new_ids);
});
