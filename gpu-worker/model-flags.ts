/** ModelFlags: the options that every command with a model shares. */
import type { KvDtype } from '../core/model/backend.ts';
import type { Flag, Options } from './command-line.ts';

/** How models from the Hub and from S3 come to this machine. HF_TOKEN, HF_ENDPOINT and the AWS SDK's variables count too. */
export const STORE_FLAGS = {
  revision: { kind: 'text', help: 'branch, tag or commit of a model on the Hub (main)', env: 'REVISION' },
  'huggingface-hub-cache': {
    kind: 'text',
    value: 'DIR',
    help: 'where models from the Hub (~/.cache/huggingface/hub) and weights from S3 (~/.cache/nibble) are kept on this disk',
    env: 'HUGGINGFACE_HUB_CACHE',
  },
  'disk-cache-gb': {
    kind: 'number',
    minimum: 0,
    help: 'limit of the weights from S3 there; the least recently used go first; 0 keeps nothing (100)',
    env: 'DISK_CACHE_GB',
  },
} as const satisfies Record<string, Flag>;

export const MODEL_FLAGS = {
  'model-id': {
    kind: 'text',
    value: 'MODEL',
    help: 'a directory in Hugging Face layout, the id of a model on the Hub, or s3://bucket/prefix',
    env: 'MODEL_ID',
  },
  backend: {
    kind: 'text',
    choices: ['auto', 'wasm', 'reference', 'webgpu', 'cuda'],
    help: 'kernels: webgpu (any GPU), wasm (SIMD on the CPU), reference (plain loops, slow); auto is a real GPU if there is one, else wasm',
    env: 'BACKEND',
  },
  quantize: {
    kind: 'text',
    choices: ['gptq', 'none', 'bitsandbytes', 'bitsandbytes-nf4', 'bitsandbytes-fp4'],
    help: "how the weights are quantized; the checkpoint's own config by default",
    env: 'QUANTIZE',
  },
  dtype: {
    kind: 'text',
    choices: ['float16', 'float32'],
    help: "precision of a GPU's products (float16 where the GPU has it)",
    env: 'DTYPE',
  },
  'kv-cache-dtype': {
    kind: 'text',
    choices: ['auto', 'f32', 'f16', 'int8'],
    help: "how keys and values are kept (auto: the backend's own choice)",
    env: 'KV_CACHE_DTYPE',
  },
  deterministic: {
    kind: 'switch',
    help: 'one order of summation: a text does not depend on what else runs (always so on wasm)',
    env: 'DETERMINISTIC',
  },
  'subgroup-matrices': {
    kind: 'toggle',
    help: "multiply prompts on a GPU's matrix units where WebGPU offers them (on); --no-subgroup-matrices",
  },
  threads: {
    kind: 'integer',
    minimum: 1,
    help: 'threads of the wasm backend (1); more than one rest for steps that one does faster',
    env: 'THREADS',
  },
  'head-bits': {
    kind: 'integer',
    choices: ['16', '8', '4'],
    help: 'bits of embedding and head, requantized on load (16: as the checkpoint has them)',
    env: 'HEAD_BITS',
  },
  sharded: {
    kind: 'text',
    choices: ['true', 'false'],
    only: 'false',
    help: "a model over several GPUs (false; TGI's, the rest is not built yet)",
    env: 'SHARDED',
  },
  'num-shard': {
    kind: 'integer',
    only: '1',
    help: "GPUs of one model (1; TGI's, more are not built yet)",
    env: 'NUM_SHARD',
  },
  speculate: {
    kind: 'integer',
    only: '0',
    help: "tokens guessed ahead (0; TGI's, more are not built yet)",
    env: 'SPECULATE',
  },
  'weights-cache': {
    kind: 'text',
    value: 's3://BUCKET/PREFIX',
    help: 'looked into before a Hub id is fetched or weights are quantized',
    env: 'WEIGHTS_CACHE',
  },
  'weights-cache-fill': { kind: 'toggle', help: 'leave there what it lacks (on)' },
  ...STORE_FLAGS,
} as const satisfies Record<string, Flag>;

export const JSON_FLAG = { kind: 'switch', help: 'one JSON document on stdout, nothing else' } as const satisfies Flag;

/** --kv-cache-dtype; null: the backend's own choice. */
export function kvDtypeOf(options: Options): KvDtype | null {
  const dtype = options.text('kv-cache-dtype') ?? 'auto';
  return dtype === 'auto' ? null : (dtype as KvDtype);
}
