/** DemoModel: the shipped model on a backend, for tests. */
import { join } from 'node:path';
import type { Backend } from '../../core/model/backend.ts';
import { Options } from '../../gpu-worker/command-line.ts';
import { type LoadedModel, loadModel, loadModelOn } from '../../gpu-worker/loader.ts';
import { openLocalModel } from '../../gpu-worker/store/local.ts';
import { uncached } from '../../gpu-worker/store/weights-cache.ts';

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

export function loadDemoOn(
  variant: 'f16' | 'gptq-int4',
  backend: Backend,
  quantize: string | null = null,
): Promise<LoadedModel> {
  const path = join(DEMO_DIRECTORY, variant);
  return loadModelOn(
    path,
    async () => uncached(await openLocalModel(path)),
    { quantize, headBits: 16, text: 'needed' },
    async () => backend,
  );
}
