/** LoadMemory: one start of the loader on WebGPU in a process of its own; prints the most that the host held beside the weights on the device. */
import process from 'node:process';
import { openCheckpoint } from '../core/formats/checkpoint-index.ts';
import type { HeadBits } from '../core/formats/requantize.ts';
import { backendChoice, openAnyGpu } from '../gpu-worker/backends.ts';
import { parseOptions } from '../gpu-worker/command-line.ts';
import { generate } from '../gpu-worker/commands/generate.ts';
import { loadModelOn } from '../gpu-worker/loader.ts';
import { openModel } from '../gpu-worker/store/open-model.ts';
import { openCachedModel } from '../gpu-worker/store/weights-cache.ts';
import { type HostMemory, watchHostMemory } from './host-memory.ts';

export interface LoadMemory {
  device: string;
  ms: number;
  /** Of the checkpoint: the one with most bytes. */
  largestTensor: { name: string; bytes: number };
  peakHostBytes: number;
}

const options = parseOptions(generate, process.argv.slice(2), {});
const path = options.required('model-id');
const opened = await openModel(path, options);
const [largest] = [...(await openCheckpoint(opened)).tensors.values()].sort(
  (a, b) => b.end - b.begin - (a.end - a.begin),
);
await opened.close();

let watch: HostMemory | null = null;
let startMs = 0;
const model = await loadModelOn(
  path,
  () => openCachedModel(options, 'look-up'),
  {
    quantize: options.text('quantize'),
    headBits: (options.number('head-bits') ?? 16) as HeadBits,
    text: 'optional',
  },
  async () => {
    const backend = await openAnyGpu(backendChoice(options));
    watch = await watchHostMemory(backend);
    startMs = performance.now();
    return backend;
  },
);
const result: LoadMemory = {
  device: 'device' in model.backend ? String(model.backend.device) : model.backend.name,
  ms: performance.now() - startMs,
  largestTensor: { name: largest!.name, bytes: largest!.end - largest!.begin },
  peakHostBytes: await watch!.peakBytes(),
};
console.log(JSON.stringify(result));
await model.backend.dispose();
