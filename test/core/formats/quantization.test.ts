/** Quantization: what a checkpoint is, what --quantize makes of it, and the one door to a linear's weight. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import type { FileSet } from '../../../core/formats/file-set.ts';
import { quantizationLabel, readLinearWeight, readQuantization } from '../../../core/formats/quantization.ts';
import { dequantize } from '../../../core/model/reference-weights.ts';
import { relativeError } from './fixtures.ts';
import { randomOf } from './random.ts';
import { fileOfTensors, type NamedTensor } from './safetensors-bytes.ts';

type Files = Record<string, unknown>;

function setOf(files: Files, listed = false): FileSet {
  const bytesOf = (content: unknown) =>
    content instanceof Uint8Array ? content : new TextEncoder().encode(JSON.stringify(content));
  return {
    name: 'm',
    open: async (path) => (files[path] === undefined ? null : new MemorySource(`m/${path}`, bytesOf(files[path]))),
    ...(listed ? { list: async () => Object.keys(files) } : {}),
  };
}

const random = randomOf(11);
const WEIGHT = Float32Array.from({ length: 12 * 64 }, () => random() - 0.5);
const plain = (dtype = 'F32', bytes: ArrayBufferView = WEIGHT): Uint8Array =>
  fileOfTensors([
    { name: 'l.weight', dtype, shape: [12, 64], bytes },
    { name: 'l.bias', dtype: 'F32', shape: [12], bytes: new Float32Array(12).fill(2) },
  ]);
const packed = (scalars: NamedTensor[] = [], metadata: Record<string, string> = {}): Uint8Array =>
  fileOfTensors(
    [
      { name: 'l.qweight', dtype: 'I32', shape: [8, 16], bytes: new Int32Array(128).fill(0x12345678) },
      { name: 'l.qzeros', dtype: 'I32', shape: [2, 2], bytes: new Int32Array(4).fill(0x77777777) },
      { name: 'l.scales', dtype: 'F16', shape: [2, 16], bytes: new Uint16Array(32).fill(0x3c00) },
      ...scalars,
    ],
    metadata,
  );
const scalar = (name: string, value: number): NamedTensor => ({
  name,
  dtype: 'I64',
  shape: [],
  bytes: BigInt64Array.of(BigInt(value)),
});
const GPTQ = { quantization_config: { quant_method: 'gptq', bits: 4, group_size: 32, sym: true } };
const BNB = { quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' } };

describe('what to load', () => {
  const quantize = (files: Files, flag: string | null, listed = false) => readQuantization(setOf(files, listed), flag);
  const model = (config: unknown, weights = plain()) => ({ 'config.json': config, 'model.safetensors': weights });

  test('plain weights stay plain or are quantized as the flag says', async () => {
    expect(await quantize(model({}), null)).toEqual({ kind: 'none' });
    expect(await quantize(model({}), 'none')).toEqual({ kind: 'none' });
    for (const [flag, method] of [
      ['bitsandbytes', 'int8'],
      ['bitsandbytes-nf4', 'nf4'],
      ['bitsandbytes-fp4', 'fp4'],
    ] as const) {
      const quantization = await quantize(model({}), flag);
      expect(quantization).toEqual({ kind: 'bitsandbytes', method });
      expect(quantizationLabel(quantization)).toBe(flag);
    }
  });

  test('a quantized checkpoint is served as what it is', async () => {
    for (const flag of [null, 'gptq'])
      expect(quantizationLabel(await quantize(model(GPTQ, packed()), flag))).toBe('gptq-int4');
    for (const flag of [null, 'bitsandbytes-nf4'])
      expect(quantizationLabel(await quantize(model(BNB), flag))).toBe('bitsandbytes-nf4');
  });

  test.each([
    ['gptq', model({}), /--quantize gptq: the checkpoint is not GPTQ/],
    ['bitsandbytes', model(GPTQ, packed()), /--quantize bitsandbytes: the checkpoint is GPTQ/],
    ['none', model(GPTQ, packed()), /--quantize none: the checkpoint is GPTQ/],
    ['none', model(BNB), /--quantize none: the checkpoint was quantized by bitsandbytes to nf4/],
    ['bitsandbytes-fp4', model(BNB), /quantized by bitsandbytes to nf4/],
    ['gptq', model(BNB), /quantized by bitsandbytes to nf4/],
  ])('--quantize %s is refused where the checkpoint is something else', async (flag, files, message) => {
    await expect(quantize(files, flag)).rejects.toMatchObject({
      failure: { code: 'model_unsupported' },
      message: expect.stringMatching(message),
    });
  });

  test('the scalar tensors of the oldest files go before any config; without gptq_sym they are asymmetric', async () => {
    const old = packed([scalar('gptq_bits', 4), scalar('gptq_groupsize', 32)]);
    for (const config of [{}, GPTQ])
      expect(await quantize(model(config, old), null)).toMatchObject({ config: { groupSize: 32, symmetric: false } });
    const symmetric = packed([scalar('gptq_bits', 4), scalar('gptq_groupsize', -1), scalar('gptq_sym', 1)]);
    expect(await quantize(model({}, symmetric), null)).toMatchObject({ config: { groupSize: null, symmetric: true } });
    const broken = packed([scalar('gptq_bits', 5), scalar('gptq_groupsize', 32)]);
    await expect(quantize(model({}, broken), null)).rejects.toThrow(/bits: 5/);
  });

  test('packed weights without a config are read by their header, else with text-generation-inference’s defaults', async () => {
    const described = model({}, packed([], { bits: '4', group_size: '32' }));
    expect(await quantize(described, null)).toMatchObject({ config: { bits: 4, groupSize: 32 } });
    expect(await quantize(model({}, packed()), 'gptq')).toMatchObject({ config: { bits: 4, groupSize: null } });
  });

  test('a directory with only gptq_model-*.safetensors is a checkpoint', async () => {
    const files = {
      'quantize_config.json': { bits: 4, group_size: 32, desc_act: false },
      'gptq_model-4bit-32g.safetensors': packed(),
      'other.safetensors': plain(),
    };
    expect(await quantize(files, null, true)).toMatchObject({ kind: 'gptq', config: { groupSize: 32 } });
    const checkpoint = await openCheckpoint(setOf(files, true));
    expect(checkpoint.has('l.qweight') && !checkpoint.has('l.weight')).toBe(true);
    await expect(openCheckpoint(setOf(files))).rejects.toThrow(/there is no model.safetensors/);
    await expect(openCheckpoint(setOf({ 'notes.txt': '' }, true))).rejects.toThrow(/there is no model.safetensors/);
  });
});

describe('one door', () => {
  const shape = { outFeatures: 12, inFeatures: 64, bias: 'required' } as const;
  const read = async (bytes: Uint8Array, quantization: Parameters<typeof readLinearWeight>[2], wanted = shape) =>
    readLinearWeight(await openCheckpoint(setOf({ 'model.safetensors': bytes })), 'l', quantization, wanted);

  test('quantizes what is plain, with its bias', async () => {
    for (const [method, kind, tolerance] of [
      ['int8', 'int8', 0.01],
      ['nf4', 'bnb4', 0.12],
      ['fp4', 'bnb4', 0.16],
    ] as const) {
      const weight = await read(plain(), { kind: 'bitsandbytes', method });
      expect(weight.kind).toBe(kind);
      expect([...weight.bias!]).toEqual(Array(12).fill(2));
      expect(relativeError(dequantize(weight), WEIGHT)).toBeLessThan(tolerance);
    }
  });

  test('leaves plain what a quantized checkpoint left plain', async () => {
    expect((await read(plain(), { kind: 'bitsandbytes-checkpoint', method: 'nf4', threshold: 6 })).kind).toBe('dense');
    const { config } = (await readQuantization(
      setOf({ 'config.json': GPTQ, 'model.safetensors': packed() }),
      null,
    )) as unknown as { config: never };
    expect((await read(plain(), { kind: 'gptq', config })).kind).toBe('dense');
  });

  test('refuses another size, a missing bias, and values that cannot be quantized', async () => {
    await expect(read(plain(), { kind: 'none' }, { ...shape, outFeatures: 13 } as never)).rejects.toThrow(
      /"l.weight": has shape \[12, 64\]; config.json asks for \[13, 64\]/,
    );
    const { config } = (await readQuantization(
      setOf({ 'config.json': GPTQ, 'model.safetensors': packed() }),
      null,
    )) as unknown as { config: never };
    await expect(read(packed(), { kind: 'gptq', config })).rejects.toThrow(
      /"l": is \[16, 64\], config.json says \[12, 64\]/,
    );
    await expect(read(packed(), { kind: 'gptq', config }, { ...shape, outFeatures: 16 } as never)).rejects.toThrow(
      /"l.bias": is missing/,
    );
    const huge = plain(
      'F32',
      WEIGHT.map((value, i) => (i === 5 ? 70_000 : value)),
    );
    await expect(read(huge, { kind: 'bitsandbytes', method: 'int8' })).rejects.toThrow(/"l.weight": holds 70000 at 5/);
    expect((await read(huge, { kind: 'bitsandbytes', method: 'nf4' })).kind).toBe('bnb4');
    const broken = plain(
      'F32',
      WEIGHT.map((value, i) => (i === 5 ? Number.NaN : value)),
    );
    await expect(read(broken, { kind: 'bitsandbytes', method: 'nf4' })).rejects.toThrow(/holds NaN at 5/);
  });
});
