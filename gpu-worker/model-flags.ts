/** ModelFlags: the options that every command with a model shares. */
import type { Flag } from './command-line.ts';

export const MODEL_FLAGS = {
  'model-id': { kind: 'text', value: 'MODEL', help: 'directory of a model in Hugging Face layout', env: 'MODEL_ID' },
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
  'head-bits': {
    kind: 'integer',
    choices: ['16', '8', '4'],
    help: 'bits of embedding and head, requantized on load (16: as the checkpoint has them)',
    env: 'HEAD_BITS',
  },
} as const satisfies Record<string, Flag>;

/** TGI's and our own model options that later work builds. */
export const PENDING_MODEL_FLAGS = [
  'revision',
  'threads',
  'deterministic',
  'dtype',
  'huggingface-hub-cache',
  'sharded',
  'num-shard',
  'speculate',
  'weights-cache',
];

export const JSON_FLAG = { kind: 'switch', help: 'one JSON document on stdout, nothing else' } as const satisfies Flag;
