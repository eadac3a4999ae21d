/** GPTQ config: which file decides, what its fields mean, what is refused by name. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { isConverted, readQuantizationConfig } from '../../../core/formats/gptq-config.ts';

const read = (config: unknown, older?: unknown) => {
  const files: Record<string, unknown> = { 'config.json': config, 'quantize_config.json': older };
  return readQuantizationConfig({
    name: 'm',
    async open(path) {
      if (files[path] === undefined) return null;
      return new MemorySource(`m/${path}`, new TextEncoder().encode(JSON.stringify(files[path])));
    },
  });
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

test('modules are left plain by any part of their name', async () => {
  const config = (await inConfig({ modules_to_not_convert: ['lm_head', 'layers.0.mlp'] }))!;
  expect(isConverted('model.layers.0.mlp.up_proj', config)).toBe(false);
  expect(isConverted('model.layers.1.mlp.up_proj', config)).toBe(true);
});

describe('refusals', () => {
  const unsupported: [object, RegExp][] = [
    [{ quant_method: 'awq', bits: undefined }, /m\/config.json: quant_method: "awq" cannot be loaded/],
    [{ quant_method: 'bitsandbytes', load_in_4bit: true, bits: undefined }, /"bitsandbytes"/],
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
