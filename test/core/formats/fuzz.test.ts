/** Fuzz: 200,000 damaged headers, index files, quantization configs and quant_states end in a named error or a right load. */
import { expect, test } from 'vitest';
import { readBnb4Weight } from '../../../core/formats/bitsandbytes.ts';
import { openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import type { FileSet } from '../../../core/formats/file-set.ts';
import { readGptqWeight } from '../../../core/formats/gptq.ts';
import { BNB4_TABLES } from '../../../core/formats/nf4-fp4.ts';
import { readQuantization } from '../../../core/formats/quantization.ts';
import { readQuantizationConfig } from '../../../core/formats/quantization-config.ts';
import { quantizedModules } from '../../../core/formats/quantized-modules.ts';
import { openSafetensors } from '../../../core/formats/safetensors.ts';
import { dequantize } from '../../../core/model/reference-weights.ts';
import { fuzz, mutate, pick, strictSource } from './mutation.ts';
import { randomOf } from './random.ts';
import { fileOf, fileOfTensors } from './safetensors-bytes.ts';

const encode = (text: string) => new TextEncoder().encode(text);

function setOf(files: Record<string, Uint8Array>): FileSet {
  return {
    name: 'm',
    open: async (path) => (Object.hasOwn(files, path) ? strictSource(path, files[path]!) : null),
    list: async () => Object.keys(files),
  };
}

const HEADER =
  '{"__metadata__":{"k":"v"},"l.qweight":{"dtype":"I32","shape":[2,8],"data_offsets":[0,64]},"l.qzeros":{"dtype":"I32","shape":[1,1],"data_offsets":[64,68]},"l.scales":{"dtype":"F16","shape":[1,8],"data_offsets":[68,84]},"l.SCB":{"dtype":"F32","shape":[1],"data_offsets":[84,88]}}';

test('70,000 damaged headers', async () => {
  const random = randomOf(1);
  const loaded = await fuzz(70_000, async () => {
    const bytes = fileOf(mutate(HEADER, random), pick([88, 88, 88, 87, 89, 0], random));
    if (random() < 0.2) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    const part = random() < 0.1 ? bytes.subarray(0, Math.floor(random() * bytes.length)) : bytes;
    const checkpoint = await openCheckpoint({ name: 'm', open: async () => null, lone: strictSource('m', part) });
    let covered = 0;
    for (const name of checkpoint.tensors.keys()) covered += (await checkpoint.read(name)).length;
    expect(covered).toBeLessThanOrEqual(part.length);
    quantizedModules(checkpoint);
    const config = {
      bits: 4,
      groupSize: null,
      actOrder: false,
      symmetric: false,
      zeroOffset: 1,
      plainModules: [],
    } as const;
    const weight = await readGptqWeight(checkpoint, 'l', config);
    expect(dequantize(weight)).toHaveLength(weight.outFeatures * weight.inFeatures);
  });
  expect(loaded).toBeGreaterThan(1000);
});

const shard = (...names: string[]) =>
  fileOfTensors(names.map((name) => ({ name, dtype: 'U8', shape: [1], bytes: Uint8Array.of(1) })));
const INDEX =
  '{"metadata":{"total_size":3},"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors","c":"x-2.safetensors"}}';

test('40,000 damaged index files', async () => {
  const random = randomOf(2);
  const files = { 'x-1.safetensors': shard('a'), 'x-2.safetensors': shard('b', 'c') };
  const loaded = await fuzz(40_000, async () => {
    const index = encode(mutate(INDEX, random));
    const checkpoint = await openCheckpoint(setOf({ ...files, 'model.safetensors.index.json': index }));
    for (const name of checkpoint.tensors.keys()) expect([...(await checkpoint.read(name))]).toEqual([1]);
  });
  expect(loaded).toBeGreaterThan(1000);
});

const CONFIGS = [
  '{"model_type":"llama","quantization_config":{"quant_method":"gptq","bits":4,"group_size":128,"desc_act":false,"sym":true,"checkpoint_format":"gptq","modules_to_not_convert":["lm_head"],"dynamic":{"-:a":{}}}}',
  '{"quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true,"load_in_8bit":false,"bnb_4bit_quant_type":"nf4","llm_int8_threshold":6.0}}',
  '{"bits":4,"group_size":-1,"desc_act":true,"sym":false,"version":"GPTQ"}',
  '{"w_bit":4,"q_group_size":64,"desc_act":false,"zero_point":false}',
];
const NAMES = ['config.json', 'quantize_config.json', 'quant_config.json'];

test('50,000 damaged quantization configs', async () => {
  const random = randomOf(3);
  const weights = shard('a.weight');
  const loaded = await fuzz(50_000, async (round) => {
    const files = setOf({
      [pick(NAMES, random)]: encode(mutate(pick(CONFIGS, random), random)),
      [pick(NAMES, random)]: encode(mutate(pick(CONFIGS, random), random)),
      'model.safetensors': weights,
    });
    const config = await readQuantizationConfig(files);
    if (config?.kind === 'gptq') {
      expect([2, 3, 4, 8]).toContain(config.config.bits);
      expect(config.config.groupSize ?? 1).toBeGreaterThan(0);
    } else if (config !== null) expect(config.threshold).toBeGreaterThanOrEqual(0);
    if (round % 10 === 0) await readQuantization(files, pick([null, 'gptq', 'none', 'bitsandbytes'], random));
  });
  expect(loaded).toBeGreaterThan(1000);
});

const STATE =
  '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [5, 27], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}';

test('50,000 damaged quant_states', async () => {
  const random = randomOf(4);
  const loaded = await fuzz(50_000, async () => {
    const blob = encode(mutate(STATE, random));
    const isNested = random() < 0.8;
    const file = fileOfTensors([
      { name: 'l.weight', dtype: 'U8', shape: [68, 1], bytes: new Uint8Array(68) },
      { name: 'l.weight.absmax', dtype: isNested ? 'U8' : 'F32', shape: [3], bytes: new Uint8Array(isNested ? 3 : 12) },
      { name: 'l.weight.quant_map', dtype: 'F32', shape: [16], bytes: BNB4_TABLES.nf4 },
      { name: 'l.weight.nested_absmax', dtype: 'F32', shape: [1], bytes: Float32Array.of(1) },
      { name: 'l.weight.nested_quant_map', dtype: 'F32', shape: [256], bytes: new Float32Array(256) },
      { name: 'l.weight.quant_state.bitsandbytes__nf4', dtype: 'U8', shape: [blob.length], bytes: blob },
    ]);
    const checkpoint = await openCheckpoint({ name: 'm', open: async () => null, lone: strictSource('m', file) });
    const weight = await readBnb4Weight(checkpoint, 'l');
    // Whatever the blob says now, it fits the 68 packed bytes and the three blocks.
    expect(Math.ceil((weight.outFeatures * weight.inFeatures) / 2)).toBe(68);
    expect(Math.ceil((weight.outFeatures * weight.inFeatures) / weight.blockSize)).toBe(3);
    expect(dequantize(weight).every(Number.isFinite)).toBe(true);
  });
  expect(loaded).toBeGreaterThan(1000);
});

test('a header of deep brackets is refused, not a stack overflow', async () => {
  const bytes = fileOf(`{"a":${'['.repeat(200_000)}`, 0);
  await expect(openSafetensors(strictSource('m', bytes))).rejects.toThrow(/m: the header is not JSON/);
});
