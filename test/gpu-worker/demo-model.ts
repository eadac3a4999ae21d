/** DemoModel: the shipped model on a backend, for tests. */
import { join } from 'node:path';
import { Options } from '../../gpu-worker/command-line.ts';
import { type LoadedModel, loadModel } from '../../gpu-worker/loader.ts';

export const DEMO_DIRECTORY = join(import.meta.dirname, '..', '..', 'models', 'demo');

export function loadDemo(variant: 'f16' | 'gptq-int4', backend: 'wasm' | 'reference'): Promise<LoadedModel> {
  return loadModel(
    new Options(
      [],
      new Map([
        ['model-id', join(DEMO_DIRECTORY, variant)],
        ['backend', backend],
      ]),
    ),
  );
}
