/** nibble dequantize and inspect: plain weights out of every packed kind, whole or not at all. */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemorySource } from '../../core/formats/byte-source.ts';
import { f16ToF32Array } from '../../core/formats/half.ts';
import { openSafetensors, type SafetensorsFile } from '../../core/formats/safetensors.ts';
import { fileOfTensors } from '../core/formats/safetensors-bytes.ts';
import { nibble } from '../end-to-end/running-edge.ts';
import { DEMO_DIRECTORY } from './demo-model.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures');
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nibble-dequantize-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const open = async (path: string): Promise<SafetensorsFile> =>
  openSafetensors(new MemorySource(path, new Uint8Array(await readFile(path))));
const f32 = async (file: SafetensorsFile, name: string) => new Float32Array((await file.read(name)).slice().buffer);

/** Asymmetric 4-bit [8, 16] in groups of 5 that do not divide 16, with act-order; and the weights it stands for. */
function loneLayer(metadata: Record<string, string>): { bytes: Uint8Array; weight: number[] } {
  const [outputs, inputs, groupSize] = [8, 16, 5];
  const q = (n: number, k: number) => (n * 7 + k * 3) % 16;
  const zero = (n: number, g: number) => 1 + ((n + g * 4) % 15);
  const groupOf = (k: number) => Math.floor((inputs - 1 - k) / groupSize);
  const qweight = new Int32Array((inputs / 8) * outputs);
  const qzeros = new Int32Array(4);
  for (let n = 0; n < outputs; n++) {
    for (let k = 0; k < inputs; k++) qweight[Math.floor(k / 8) * outputs + n]! |= q(n, k) << (4 * (k % 8));
    for (let g = 0; g < 4; g++) qzeros[g]! |= (zero(n, g) - 1) << (4 * n);
  }
  const scales = Uint16Array.from({ length: 32 }, (_, i) => 0x3000 + i * 17);
  const values = f16ToF32Array(scales);
  const bytes = fileOfTensors(
    [
      { name: 'qweight', dtype: 'I32', shape: [2, outputs], bytes: qweight },
      { name: 'qzeros', dtype: 'I32', shape: [4, 1], bytes: qzeros },
      { name: 'scales', dtype: 'F16', shape: [4, outputs], bytes: scales },
      {
        name: 'g_idx',
        dtype: 'I32',
        shape: [inputs],
        bytes: Int32Array.from({ length: inputs }, (_, k) => groupOf(k)),
      },
      { name: 'bias', dtype: 'F16', shape: [outputs], bytes: new Uint16Array(outputs).fill(0x3c00) },
      { name: 'weight', dtype: 'F32', shape: [1], bytes: new Float32Array(1) },
    ],
    metadata,
  );
  const weight = Array.from({ length: outputs * inputs }, (_, i) => {
    const [n, k] = [Math.floor(i / inputs), i % inputs];
    return Math.fround(values[groupOf(k) * outputs + n]! * (q(n, k) - zero(n, groupOf(k))));
  });
  return { bytes, weight };
}

describe('a lone file', () => {
  test.each([
    ['its metadata', { bits: '4', group_size: '5', desc_act: 'true', sym: 'false' }, []],
    ['flags', {}, ['--bits', '4', '--groupsize', '5', '--desc-act', '--no-sym', '--checkpoint-format', 'gptq']],
    ['flags before its metadata', { bits: '8', group_size: '-1' }, ['--bits=4', '--group-size=5', '--act-order']],
  ])('is read by %s and becomes one plain file', async (_, metadata, flags) => {
    const { bytes, weight } = loneLayer(metadata as Record<string, string>);
    const [from, to] = [join(directory, 'layer.safetensors'), join(directory, 'out', 'plain.safetensors')];
    await writeFile(from, bytes);
    const { code, stdout, stderr } = await nibble(['dequantize', from, to, ...flags, '--json']);
    expect([code, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout)).toMatchObject({ out: to, dequantized: 1, tensors: 2, dtype: 'float32' });
    const file = await open(to);
    expect([...file.tensors.keys()].sort()).toEqual(['bias', 'weight']);
    expect(file.tensors.get('weight')).toMatchObject({ dtype: 'F32', shape: [8, 16] });
    expect([...(await f32(file, 'weight'))]).toEqual(weight);
    expect(await readdir(join(directory, 'out'))).toEqual(['plain.safetensors']);
  });

  test('version 2 zeros are taken as they are', async () => {
    const { bytes, weight } = loneLayer({ bits: '4', group_size: '5', desc_act: 'true', checkpoint_format: 'gptq_v2' });
    const [from, to] = [join(directory, 'layer.safetensors'), join(directory, 'plain.safetensors')];
    await writeFile(from, bytes);
    expect((await nibble(['dequantize', from, to])).code).toBe(0);
    const values = await f32(await open(to), 'weight');
    expect(values.every((value, i) => value > weight[i]!)).toBe(true);
  });

  test('that does not fit its parameters leaves nothing behind', async () => {
    const from = join(directory, 'layer.safetensors');
    await writeFile(from, loneLayer({}).bytes);
    const { code, stdout, stderr } = await nibble(['dequantize', from, join(directory, 'x'), '--group-size', '8']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(
      /^nibble dequantize: .*layer\.safetensors: tensor "qzeros": has shape \[4, 1\]; .*\[2, 1\]\n$/,
    );
    expect(await readdir(directory)).toEqual(['layer.safetensors']);
  });
});

describe('a directory', () => {
  test('becomes a plain model with its tokenizer, as transformers reads it', async () => {
    const out = join(directory, 'plain');
    const { code, stderr } = await nibble(['dequantize', join(DEMO_DIRECTORY, 'gptq-int4'), out, '--dtype', 'float16']);
    expect([code, stderr]).toEqual([0, '']);
    expect((await readdir(out)).sort()).toEqual(
      ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'].sort(),
    );
    const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
    expect(config.quantization_config).toBeUndefined();
    expect(config.dtype ?? config.torch_dtype).toBe('float16');
    const inspected = JSON.parse((await nibble(['inspect', out, '--json'])).stdout);
    const packed = JSON.parse((await nibble(['inspect', join(DEMO_DIRECTORY, 'gptq-int4'), '--json'])).stdout);
    expect(inspected.quantization).toBeNull();
    expect(inspected.parameters).toBe(packed.parameters);
    expect(inspected.weight_bytes).toBe(2 * packed.parameters);
    expect(packed.quantization).toMatchObject({ method: 'gptq', bits: 4, checkpoint_format: 'gptq' });
  });

  test.each([
    ['nf4-nested', { bits: 4, group_size: 64, quant_type: 'nf4', double_quant: true }],
    ['fp4-plain', { bits: 4, group_size: 64, quant_type: 'fp4', double_quant: false }],
    ['int8', { bits: 8, group_size: -1, quant_type: 'int8' }],
  ])('of bitsandbytes is named and unpacked: %s', async (name, quantization) => {
    const model = join(FIXTURES, 'bitsandbytes', name);
    const before = JSON.parse((await nibble(['inspect', model, '--json'])).stdout);
    expect(before).toMatchObject({ parameters: 31_728, quantization: { method: 'bitsandbytes', ...quantization } });
    const out = join(directory, 'plain');
    expect((await nibble(['dequantize', model, out])).code).toBe(0);
    const after = JSON.parse((await nibble(['inspect', out, '--json'])).stdout);
    expect(after).toMatchObject({ parameters: 31_728, quantization: null });
    const names = after.tensors.map((tensor: { name: string }) => tensor.name);
    expect(names).toContain('model.layers.0.mlp.down_proj.weight');
    expect(names.some((tensor: string) => /absmax|quant|SCB|format/.test(tensor))).toBe(false);
  });
});

describe('what is there is not lost', () => {
  const model = join(FIXTURES, 'bitsandbytes/int8');

  test('OUT that exists needs --force, and a directory without a model is never replaced', async () => {
    const out = join(directory, 'plain');
    await cp(model, out, { recursive: true });
    await writeFile(join(out, 'stale.txt'), '');
    const refused = await nibble(['dequantize', model, out]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/is there already; --force replaces it/)]);
    expect((await nibble(['dequantize', model, out, '--force'])).code).toBe(0);
    expect(await readdir(out)).not.toContain('stale.txt');

    const home = join(directory, 'home');
    await mkdir(home);
    await writeFile(join(home, 'diary.txt'), 'dear');
    const { code, stderr } = await nibble(['dequantize', model, home, '--force']);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/directory without a model/)]);
    expect(await readFile(join(home, 'diary.txt'), 'utf8')).toBe('dear');
  });

  test('the model itself is no OUT, nor what holds it', async () => {
    for (const out of [model, FIXTURES])
      expect(await nibble(['dequantize', model, out, '--force'])).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(/is or holds the model/),
      });
  });

  test('plain weights, flags for a directory, and contradictions are wrong', async () => {
    const out = join(directory, 'x');
    expect(await nibble(['dequantize', join(DEMO_DIRECTORY, 'f16'), out])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/there are no GPTQ and no bitsandbytes weights/),
    });
    expect(await nibble(['dequantize', model, out, '--bits', '4'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/bits is for a lone file/),
    });
    expect(await nibble(['dequantize', model, out, '--sym', '--no-sym'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--sym and --no-sym exclude each other/),
    });
  });
});
