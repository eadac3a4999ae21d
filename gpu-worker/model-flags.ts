/** ModelFlags: the options that every command with a model shares. */
import type { Flag } from './command-line.ts';

/** Where a model on the Hub comes from. HF_TOKEN and HF_ENDPOINT count too. */
export const HUB_FLAGS = {
  revision: { kind: 'text', help: 'branch, tag or commit of a model on the Hub (main)' },
  'huggingface-hub-cache': {
    kind: 'text',
    value: 'DIR',
    help: 'where models from the Hub are kept',
    env: 'HUGGINGFACE_HUB_CACHE',
  },
} as const satisfies Record<string, Flag>;

export const MODEL_FLAGS = {
  'model-id': {
    kind: 'text',
    value: 'MODEL',
    help: 'directory of a model in Hugging Face layout, or its id on the Hub',
    env: 'MODEL_ID',
  },
  backend: {
    kind: 'text',
    choices: ['auto', 'wasm', 'reference', 'webgpu', 'cuda'],
    help: 'kernels: wasm (SIMD on the CPU), reference (plain loops, slow); auto is wasm until a GPU backend is there',
    env: 'BACKEND',
  },
  quantize: {
    kind: 'text',
    choices: ['gptq', 'none', 'bitsandbytes', 'bitsandbytes-nf4', 'bitsandbytes-fp4'],
    help: "how the weights are quantized; the checkpoint's own config by default",
    env: 'QUANTIZE',
  },
  ...HUB_FLAGS,
} as const satisfies Record<string, Flag>;

/** TGI's and our own model options that later work builds. */
export const PENDING_MODEL_FLAGS = [
  'threads',
  'head-bits',
  'deterministic',
  'dtype',
  'sharded',
  'num-shard',
  'speculate',
  'weights-cache',
];

export const JSON_FLAG = { kind: 'switch', help: 'one JSON document on stdout, nothing else' } as const satisfies Flag;
