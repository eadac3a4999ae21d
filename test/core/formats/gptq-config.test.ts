/** GPTQ config: which file decides, what its fields mean, what is refused by name. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import type { CheckpointFiles } from '../../../core/formats/checkpoint-index.ts';
import { gptqConfigOfMetadata, isConverted } from '../../../core/formats/gptq-config.ts';
import { readQuantizationConfig } from '../../../core/formats/quantization-config.ts';

const readAny = (config: unknown, older?: unknown, oldest?: unknown) => {
  const files: Record<string, unknown> = {
    'config.json': config,
    'quantize_config.json': older,
    'quant_config.json': oldest,
  };
  return readQuantizationConfig({
    name: 'm',
    async open(path) {
      if (files[path] === undefined) return null;
      return new MemorySource(`m/${path}`, new TextEncoder().encode(JSON.stringify(files[path])));
    },
  });
};
const read = async (config: unknown, older?: unknown, oldest?: unknown) => {
  const found = await readAny(config, older, oldest);
  return found?.kind === 'gptq' ? found.config : null;
};
const inConfig = (fields: object) =>
  read({ model_type: 'llama', quantization_config: { quant_method: 'gptq', bits: 4, group_size: 128, ...fields } });

test('config.json decides, with the defaults of its writers', async () => {
  expect(await inConfig({ damp_percent: 0.1, dataset: 'c4' })).toEqual({
    bits: 4,
    groupSize: 128,
    actOrder: false,
    symmetric: false,
    zeroOffset: 1,
    plainModules: [],
  });
  expect(
    await inConfig({ bits: 3, group_size: -1, desc_act: true, sym: true, checkpoint_format: 'gptq_v2' }),
  ).toMatchObject({
    bits: 3,
    groupSize: null,
    actOrder: true,
    symmetric: true,
    zeroOffset: 0,
  });
  expect(
    (
      await read(
        { quantization_config: { quant_method: 'gptq', bits: 8, group_size: 32 } },
        { bits: 4, group_size: 128 },
      )
    )?.bits,
  ).toBe(8);
});

test('quantize_config.json decides where config.json does not', async () => {
  expect(await read({}, { bits: 4, group_size: 128, desc_act: false })).toMatchObject({ bits: 4, groupSize: 128 });
  expect(await read(undefined, { bits: 2, group_size: 64, desc_act: true })).toMatchObject({ bits: 2, actOrder: true });
  expect(await read({ quantization_config: { bits: 8 } }, { bits: 4, group_size: 128 })).toMatchObject({ bits: 4 });
});

test('plain weights have no config', async () => {
  expect(await read({ model_type: 'llama' })).toBeNull();
  expect(await read({ quantization_config: null })).toBeNull();
  expect(await read(undefined)).toBeNull();
});

test('quant_config.json comes last, with the names of its writer', async () => {
  const oldest = { w_bit: 4, q_group_size: 64, desc_act: true };
  expect(await read({}, undefined, oldest)).toMatchObject({ bits: 4, groupSize: 64, actOrder: true, symmetric: false });
  expect(await read({}, { bits: 8, group_size: -1 }, oldest)).toMatchObject({ bits: 8, groupSize: null });
  await expect(read({}, undefined, { ...oldest, zero_point: true })).rejects.toThrow(/quant_config.json: .*"awq"/);
  await expect(read({}, undefined, { bits: 4 })).rejects.toThrow(/quant_config.json: .*bits/);
});

test('modules are left plain by any part of their name, or by having a plain weight and no packed one', async () => {
  const config = (await inConfig({ modules_to_not_convert: ['lm_head', 'layers.0.mlp'] }))!;
  const checkpoint = (...names: string[]) => ({ has: (name: string) => names.includes(name) }) as CheckpointFiles;
  expect(isConverted(checkpoint(), 'model.layers.0.mlp.up_proj', config)).toBe(false);
  expect(isConverted(checkpoint(), 'model.layers.1.mlp.up_proj', config)).toBe(true);
  expect(isConverted(checkpoint('a.qweight', 'a.weight'), 'a', config)).toBe(true);
  expect(isConverted(checkpoint('a.weight'), 'a', config)).toBe(false);
  expect((await inConfig({ dynamic: { '-:.*lm_head': {} } }))?.bits).toBe(4);
});

test('a header’s metadata stands in for a config, flags before it, text-generation-inference’s defaults behind it', () => {
  const metadata = { bits: '3', group_size: '-1', desc_act: 'true', sym: 'False', checkpoint_format: 'gptq_v2' };
  expect(gptqConfigOfMetadata(metadata, 'f')).toMatchObject({
    bits: 3,
    groupSize: null,
    actOrder: true,
    symmetric: false,
    zeroOffset: 0,
  });
  expect(gptqConfigOfMetadata(metadata, 'f', { bits: 8, sym: true })).toMatchObject({ bits: 8, symmetric: true });
  expect(gptqConfigOfMetadata({ gptq_groupsize: '64', sym: '1' }, 'f')).toMatchObject({
    bits: 4,
    groupSize: 64,
    symmetric: true,
  });
  expect(() => gptqConfigOfMetadata({ bits: 'four' }, 'f')).toThrow(/^f: .*bits/);
  expect(() => gptqConfigOfMetadata({ sym: 'maybe' }, 'f')).toThrow(/^f: .*sym/);
});

describe('bitsandbytes', () => {
  const bitsandbytes = (fields: object) =>
    readAny({ quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true, ...fields } });

  test('is known by its method, or by what it loads in', async () => {
    expect(await bitsandbytes({ bnb_4bit_quant_type: 'nf4' })).toEqual({
      kind: 'bitsandbytes-checkpoint',
      method: 'nf4',
      threshold: 6,
    });
    expect(await bitsandbytes({})).toMatchObject({ method: 'fp4' });
    const old = { load_in_8bit: true, load_in_4bit: false, llm_int8_threshold: 3.5 };
    expect(await readAny({ quantization_config: old })).toMatchObject({ method: 'int8', threshold: 3.5 });
  });

  test.each([
    { load_in_8bit: true },
    { load_in_4bit: false },
    { bnb_4bit_quant_type: 'af4' },
    { llm_int8_threshold: -1 },
  ])('is refused: %j', async (fields) => {
    await expect(bitsandbytes(fields)).rejects.toMatchObject({
      failure: { code: 'file_invalid', file: 'm/config.json' },
    });
  });
});

describe('refusals', () => {
  const unsupported: [object, RegExp][] = [
    [{ quant_method: 'awq', bits: undefined }, /m\/config.json: quant_method: "awq" cannot be loaded/],
    [{ quant_method: 'hqq', bits: undefined }, /"hqq"/],
    [{ bits: 5 }, /bits: 5 cannot be loaded/],
    [{ checkpoint_format: 'marlin' }, /checkpoint_format: "marlin"/],
    [{ format: 'bitblas' }, /checkpoint_format: "bitblas"/],
    [{ dynamic: { '+:.*mlp.*': { bits: 8 } } }, /dynamic/],
    [{ pack_dtype: 'int64' }, /pack_dtype: "int64"/],
  ];
  test.each(unsupported)('unsupported: %j', async (fields, message) => {
    await expect(inConfig(fields)).rejects.toMatchObject({
      failure: { code: 'model_unsupported' },
      message: expect.stringMatching(message),
    });
  });

  test('an AWQ quantize_config.json is known by its version', async () => {
    await expect(read(undefined, { bits: 4, group_size: 128, version: 'GEMM' })).rejects.toThrow(
      /quantize_config.json: quant_method: "awq"/,
    );
  });

  const invalid: object[] = [
    { bits: '4' },
    { group_size: 0 },
    { group_size: 1.5 },
    { desc_act: 'yes' },
    { quant_method: undefined },
    { modules_to_not_convert: [''] },
  ];
  test.each(invalid)('invalid: %j', async (fields) => {
    await expect(inConfig(fields)).rejects.toMatchObject({ failure: { code: 'file_invalid', file: 'm/config.json' } });
  });
});
