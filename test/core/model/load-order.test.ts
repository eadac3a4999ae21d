import { expect, test } from 'vitest';
import type { CheckpointFiles } from '../../../core/formats/checkpoint-index.ts';
import { loadModelWeights } from '../../../core/model/checkpoint.ts';
import { loadOrder } from '../../../core/model/load-order.ts';
import { ReferenceBackend } from '../../../core/model/reference.ts';
import { FIXTURES, openFixture } from './fixtures.ts';

test.for(FIXTURES)('%s: the announced order is the one in which the loader reads', async (name) => {
  const { config, checkpoint } = await openFixture(name);
  const read: string[] = [];
  const watched: CheckpointFiles = {
    ...checkpoint,
    async read(tensor) {
      read.push(tensor);
      return checkpoint.read(tensor);
    },
  };
  await loadModelWeights(watched, { config, quantization: { kind: 'none' }, backend: new ReferenceBackend() });
  const module = (tensor: string) => tensor.replace(/\.(weight|bias)$/, '');
  const announced = loadOrder(checkpoint.tensors.keys(), config);
  // Within a module the file's order may differ: its tensors lie together anyway.
  expect([...new Set(announced.map(module))]).toEqual([...new Set(read.map(module))]);
  expect([...announced].sort()).toEqual([...read].sort());
});
