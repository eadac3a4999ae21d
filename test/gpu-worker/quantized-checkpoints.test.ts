/** Quantized checkpoints: what transformers, bitsandbytes and GPTQ writers saved gives their greedy tokens (scripts/fixtures/checkpoints.py). */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Scorer } from '../../core/engine/scorer.ts';
import { openCheckpoint } from '../../core/formats/checkpoint-index.ts';
import { readJson } from '../../core/formats/file-set.ts';
import { readQuantization } from '../../core/formats/quantization.ts';
import { loadModelWeights } from '../../core/model/checkpoint.ts';
import { parseModelConfig } from '../../core/model/config.ts';
import { Graph } from '../../core/model/graph.ts';
import { ReferenceBackend } from '../../core/model/reference.ts';
import { openLocalModel } from '../../gpu-worker/store/local.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures');
const checkpoints = ['bitsandbytes', 'gptq'].flatMap((folder) =>
  readdirSync(join(FIXTURES, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('golden.json'))
    .map((path) => join(folder, dirname(path))),
);

interface Golden {
  prompt_ids: number[];
  ids: number[];
  logprobs: number[];
}

describe.each(checkpoints)('%s', (name) => {
  test('gives the tokens and, within 0.02, the logprobs of its dequantised weights', async () => {
    const golden = JSON.parse(readFileSync(join(FIXTURES, name, 'golden.json'), 'utf8')) as Golden;
    const files = await openLocalModel(join(FIXTURES, name));
    const config = parseModelConfig(await readJson(files, 'config.json', 1e6), null, 'config.json');
    const backend = new ReferenceBackend();
    const quantization = await readQuantization(files, null);
    expect(quantization.kind).not.toBe('none');
    const weights = await loadModelWeights(await openCheckpoint(files), { config, quantization, backend });
    await files.close();

    const ids = [...golden.prompt_ids, ...golden.ids];
    const greedy: { id: number; logprob: number }[] = [];
    await new Scorer(new Graph(config, weights, backend), ids.length).logits(ids, (logits) => {
      const highest = Math.max(...logits);
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
      greedy.push({ id: logits.indexOf(highest), logprob: -Math.log(total) });
    });
    const predicted = greedy.slice(golden.prompt_ids.length - 1, -1);
    expect(predicted.map(({ id }) => id)).toEqual(golden.ids);
    predicted.forEach(({ logprob }, i) => {
      expect(Math.abs(logprob - golden.logprobs[i]!)).toBeLessThan(0.02);
    });
  });
});
