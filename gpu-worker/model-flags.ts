/** ModelFlags: the options that every command with a model shares. */
import type { Flag } from './command-line.ts';

/** Where files from afar are kept on this machine. */
export const DISK_CACHE_FLAGS = {
  'huggingface-hub-cache': {
    kind: 'text',
    value: 'DIR',
    help: 'where weights from S3 are kept on this disk (~/.cache/nibble)',
    env: 'HUGGINGFACE_HUB_CACHE',
  },
  'disk-cache-gb': {
    kind: 'number',
    minimum: 0,
    help: 'its limit; the least recently used go first; 0 keeps nothing (100)',
    env: 'DISK_CACHE_GB',
  },
} as const satisfies Record<string, Flag>;

export const MODEL_FLAGS = {
  'model-id': {
    kind: 'text',
    value: 'MODEL',
    help: 'a directory in Hugging Face layout, or s3://bucket/prefix',
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
  'weights-cache': {
    kind: 'text',
    value: 's3://BUCKET/PREFIX',
    help: 'looked into before a Hub id is fetched or weights are quantized',
    env: 'WEIGHTS_CACHE',
  },
  'weights-cache-fill': { kind: 'toggle', help: 'leave there what it lacks (on)' },
  ...DISK_CACHE_FLAGS,
} as const satisfies Record<string, Flag>;

/** TGI's and our own model options that later work builds. */
export const PENDING_MODEL_FLAGS = [
  'revision',
  'threads',
  'head-bits',
  'deterministic',
  'dtype',
  'sharded',
  'num-shard',
  'speculate',
];

export const JSON_FLAG = { kind: 'switch', help: 'one JSON document on stdout, nothing else' } as const satisfies Flag;
