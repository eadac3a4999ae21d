/** GPTQ: AutoGPTQ's own files give AutoGPTQ's own weights, and packing is its own inverse. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import { dequantizeGptq, type GptqConfig, packGptq, readGptqWeight, unpackGptq } from '../../../core/formats/gptq.ts';
import { f16ToF32, f16ToF32Array, f32ToF16, f32ToF16Array } from '../../../core/formats/half.ts';
import type { GptqWeight } from '../../../core/model/backend.ts';
import { sharedData } from '../../shared-data.ts';
import { randomOf } from './random.ts';
import { fileOfTensors, type NamedTensor } from './safetensors-bytes.ts';

const config = (fields: Partial<GptqConfig>): GptqConfig => ({
  bits: 4,
  groupSize: 32,
  actOrder: false,
  symmetric: false,
  zeroOffset: 1,
  plainModules: [],
  ...fields,
});

const checkpointOf = (bytes: Uint8Array) =>
  openCheckpoint({ name: 'm', open: async () => null, lone: new MemorySource('m.safetensors', bytes) });

describe('packing', () => {
  const cases = ([2, 3, 4, 8] as const).flatMap((bits) =>
    ([0, 1] as const).map((zeroOffset) => ({ bits, zeroOffset })),
  );
  test.each(cases)('is undone by unpacking: $bits bits, zeros stored less $zeroOffset', ({ bits, zeroOffset }) => {
    const random = randomOf(bits * 10 + zeroOffset);
    for (let round = 0; round < 5; round++) {
      const [inFeatures, outFeatures] = [32 * (1 + Math.floor(random() * 4)), 32 * (1 + Math.floor(random() * 3))];
      // The last group may be short.
      const groupSize = [16, 24, 32, inFeatures][Math.floor(random() * 4)]!;
      const groups = Math.ceil(inFeatures / groupSize);
      const quantized = Uint8Array.from({ length: inFeatures * outFeatures }, () => random() * 2 ** bits);
      const zeros = Uint8Array.from(
        { length: groups * outFeatures },
        () => zeroOffset + random() * (2 ** bits - zeroOffset),
      );
      const scales = f32ToF16Array(Float32Array.from({ length: groups * outFeatures }, () => random()));
      const weight = packGptq(
        { quantized, zeros },
        { outFeatures, inFeatures, bits, groupSize, zeroOffset, scales, gIdx: null, bias: null },
      );
      expect(weight.qweight.length).toBe((inFeatures * bits * outFeatures) / 32);
      expect(unpackGptq(weight)).toEqual({ quantized, zeros });

      const dequantized = dequantizeGptq(weight);
      const [n, k] = [outFeatures - 1, inFeatures - 1];
      const group = Math.floor(k / groupSize) * outFeatures + n;
      expect(dequantized[n * inFeatures + k]).toBe(
        Math.fround(f16ToF32(scales[group]!) * (quantized[k * outFeatures + n]! - zeros[group]!)),
      );
    }
  });

  test('lays 32 three-bit values over three words as AutoGPTQ does', () => {
    const quantized = Uint8Array.from({ length: 32 * 32 }, (_, i) => (i % 32 === 0 ? Math.floor(i / 32) % 8 : 0));
    const { qweight } = packGptq(
      { quantized, zeros: new Uint8Array(32).fill(1) },
      {
        outFeatures: 32,
        inFeatures: 32,
        bits: 3,
        groupSize: 32,
        zeroOffset: 1,
        scales: new Uint16Array(32),
        gIdx: null,
        bias: null,
      },
    );
    const v = (k: number) => k % 8;
    let [low, middle, high] = [0, v(10) >> 2, v(21) >> 1];
    for (let k = 0; k < 10; k++) low |= v(k) << (3 * k);
    low |= v(10) << 30;
    for (let k = 11; k < 21; k++) middle |= v(k) << (3 * (k - 11) + 1);
    middle |= v(21) << 31;
    for (let k = 22; k < 32; k++) high |= v(k) << (3 * (k - 22) + 2);
    expect([qweight[0], qweight[32], qweight[64]]).toEqual([low, middle, high]);
  });

  test('refuses a zero point that version 1 cannot store, and sizes that do not fill words', () => {
    const rest = {
      outFeatures: 8,
      inFeatures: 8,
      bits: 4,
      groupSize: 8,
      zeroOffset: 1,
      scales: new Uint16Array(8),
      gIdx: null,
      bias: null,
    } as const;
    const integers = { quantized: new Uint8Array(64), zeros: new Uint8Array(8) };
    expect(() => packGptq(integers, rest)).toThrow('-1 does not fit in 4 bits');
    expect(() => packGptq(integers, { ...rest, inFeatures: 7 })).toThrow('does not fill whole words');
    expect(() => packGptq(integers, { ...rest, groupSize: 4 })).toThrow('64 values and 8 zeros');
  });
});

/** A 4-bit linear [16, 64] with two groups, all zero. */
const linear = (overrides: Record<string, Partial<NamedTensor> | null> = {}): Uint8Array => {
  const tensors: NamedTensor[] = [
    { name: 'qweight', dtype: 'I32', shape: [8, 16], bytes: new Int32Array(128) },
    { name: 'qzeros', dtype: 'I32', shape: [2, 2], bytes: new Int32Array(4).fill(0x77777777) },
    { name: 'scales', dtype: 'F16', shape: [2, 16], bytes: new Uint16Array(32).fill(0x3c00) },
    { name: 'g_idx', dtype: 'I32', shape: [64], bytes: Int32Array.from({ length: 64 }, (_, k) => Math.floor(k / 32)) },
    { name: 'bias', dtype: 'F16', shape: [16], bytes: new Uint16Array(16).fill(0x3800) },
  ];
  const changed = tensors.flatMap((tensor) =>
    overrides[tensor.name] === null ? [] : [{ ...tensor, ...overrides[tensor.name] }],
  );
  return fileOfTensors(changed.map((tensor) => ({ ...tensor, name: `l.${tensor.name}` })));
};
const readLinear = async (bytes: Uint8Array, fields: Partial<GptqConfig> = {}) =>
  readGptqWeight(await checkpointOf(bytes), 'l', config(fields));

describe('reading', () => {
  test('takes sizes from qweight and turns a trivial g_idx into null', async () => {
    const weight = await readLinear(linear());
    expect(weight).toMatchObject({
      kind: 'gptq',
      outFeatures: 16,
      inFeatures: 64,
      groupSize: 32,
      zeroOffset: 1,
      gIdx: null,
    });
    expect([...weight.bias!]).toEqual(Array(16).fill(0.5));
    expect([...dequantizeGptq(weight)].every((value) => value === -8)).toBe(true);
  });

  test('honours version 2 zeros, which are stored as they are', async () => {
    const weight = await readLinear(linear(), { zeroOffset: 0 });
    expect(dequantizeGptq(weight)[0]).toBe(-7);
  });

  test('wraps a stored zero of 15 to 0, as text-generation-inference reads it', async () => {
    const qzeros = { bytes: new Int32Array(4).fill(-1) };
    expect((await readLinear(linear({ qzeros })).then(unpackGptq)).zeros[0]).toBe(0);
    expect(dequantizeGptq(await readLinear(linear({ qzeros })))[0]).toBe(0);
  });

  test('does without g_idx and bias', async () => {
    expect(await readLinear(linear({ g_idx: null, bias: null }))).toMatchObject({ gIdx: null, bias: null });
  });

  test('keeps an act-order g_idx; takes zeros for none only without act-order', async () => {
    const reversed = Int32Array.from({ length: 64 }, (_, k) => (k < 32 ? 1 : 0));
    expect((await readLinear(linear({ g_idx: { bytes: reversed } }))).gIdx).toEqual(reversed);
    const zeros = linear({ g_idx: { bytes: new Int32Array(64) } });
    expect((await readLinear(zeros)).gIdx).toBeNull();
    expect((await readLinear(zeros, { actOrder: true })).gIdx).toEqual(new Int32Array(64));
  });

  test('makes one group of a null or an oversized group size', async () => {
    const one = linear({
      qzeros: { shape: [1, 2], bytes: new Int32Array(2) },
      scales: { shape: [1, 16], bytes: new Uint16Array(16) },
      g_idx: { bytes: new Int32Array(64) },
    });
    for (const groupSize of [null, 64, 1024])
      expect(await readLinear(one, { groupSize })).toMatchObject({ groupSize: 64, gIdx: null });
  });

  test('rounds scales in f32 to f16 and refuses those beyond it', async () => {
    const scales = (value: number) => linear({ scales: { dtype: 'F32', bytes: new Float32Array(32).fill(value) } });
    expect((await readLinear(scales(0.1))).scales[0]).toBe(0x2e66);
    await expect(readLinear(scales(1e6))).rejects.toThrow(/"l.scales": holds F32 1000000 at 0, which is beyond f16/);
  });

  test('refuses scales that are no finite number', async () => {
    const scales = (half: number) => linear({ scales: { bytes: new Uint16Array(32).fill(0x3c00).fill(half, 5, 6) } });
    await expect(readLinear(scales(0x7c00))).rejects.toThrow(/"l.scales": holds F16 Infinity at 5/);
    await expect(readLinear(scales(0xfe01))).rejects.toThrow(/"l.scales": holds F16 NaN at 5/);
  });

  test('repairs 3-bit symmetric zeros that a wrong conversion left', async () => {
    const swapped = Int32Array.of(0, 0xb6db6db7 | 0, 0x49249249);
    const bytes = fileOfTensors([
      { name: 'l.qweight', dtype: 'I32', shape: [3, 32], bytes: new Int32Array(96) },
      { name: 'l.qzeros', dtype: 'I32', shape: [1, 3], bytes: swapped },
      { name: 'l.scales', dtype: 'F16', shape: [1, 32], bytes: new Uint16Array(32).fill(0x3c00) },
    ]);
    const symmetric = await readLinear(bytes, { bits: 3, symmetric: true });
    expect([...unpackGptq(symmetric).zeros]).toEqual(Array(32).fill(4));
    const asymmetric = await readLinear(bytes, { bits: 3 });
    expect(asymmetric.qzeros).toEqual(swapped);
  });

  const broken: [string, Uint8Array, Partial<GptqConfig>, RegExp][] = [
    ['no qweight', linear({ qweight: null }), {}, /tensor "l.qweight": is missing: the config says gptq/],
    ['qweight of floats', linear({ qweight: { dtype: 'F32' } }), {}, /"l.qweight": has dtype F32 instead of I32/],
    ['qweight of one dimension', linear({ qweight: { shape: [128] } }), {}, /"l.qweight": has 1 dimensions/],
    [
      'rows that no 3-bit weight has',
      linear(),
      { bits: 3 },
      /"l.qweight": \[8, 16\] i32 does not hold whole rows of 3-bit/,
    ],
    ['another group size', linear(), { groupSize: 16 }, /"l.qzeros": has shape \[2, 2\]; .* ask for \[4, 2\]/],
    [
      'scales of another width',
      linear({ scales: { shape: [1, 32] } }),
      {},
      /"l.scales": has shape \[1, 32\]; .* \[2, 16\]/,
    ],
    [
      'integer scales',
      linear({ scales: { dtype: 'I16' } }),
      {},
      /"l.scales": has dtype I16 instead of F16 or BF16 or F32/,
    ],
    ['short g_idx', linear({ g_idx: { shape: [32], bytes: new Int32Array(32) } }), {}, /"l.g_idx": has shape \[32\]/],
    [
      'group out of range',
      linear({ g_idx: { bytes: new Int32Array(64).fill(2, 5) } }),
      {},
      /channel 5 into group 2; there are 2/,
    ],
    ['negative group', linear({ g_idx: { bytes: new Int32Array(64).fill(-1) } }), {}, /channel 0 into group -1/],
    [
      'bias of another length',
      linear({ bias: { shape: [8], bytes: new Uint16Array(8) } }),
      {},
      /"l.bias": has shape \[8\]/,
    ],
  ];
  test.each(broken)('is refused by name: %s', async (_, bytes, fields, message) => {
    await expect(readLinear(bytes, fields)).rejects.toMatchObject({
      failure: { code: 'file_invalid' },
      message: expect.stringMatching(message),
    });
  });
});

const golden = sharedData('gptq-golden');
const goldenFiles = golden === null ? [] : readdirSync(golden).filter((file) => file.endsWith('.safetensors'));

describe.skipIf(golden === null)('AutoGPTQ (skipped without shared data)', () => {
  test.each(goldenFiles)('its weights, output and bias: %s', async (file) => {
    const bytes = readFileSync(join(golden!, file));
    // The file has bare names; a prefix is what a checkpoint has.
    const inner = await checkpointOf(bytes);
    const prefixed = new Map([...inner.tensors].map(([name, entry]) => [`l.${name}`, { ...entry, name: `l.${name}` }]));
    const checkpoint = {
      ...inner,
      tensors: prefixed,
      has: (name: string) => prefixed.has(name),
      read: (name: string) => inner.read(name.slice(2)),
    };
    const { bits, group_size: groupSize, desc_act: actOrder, sym } = inner.metadata;
    const weight = await readGptqWeight(
      checkpoint,
      'l',
      config({
        bits: Number(bits) as GptqConfig['bits'],
        groupSize: groupSize === '-1' ? null : Number(groupSize),
        actOrder: actOrder === 'true',
        symmetric: sym === 'true',
      }),
    );
    expect(weight.gIdx === null).toBe(actOrder !== 'true');

    const floats = async (name: string) => {
      const own = (await inner.read(name)).slice();
      const isHalf = inner.tensors.get(name)!.dtype === 'F16';
      return isHalf ? f16ToF32Array(new Uint16Array(own.buffer)) : new Float32Array(own.buffer);
    };
    const dequantized = dequantizeGptq(weight);
    if (inner.has('dequantised')) expectScalesApart(weight, dequantized, await floats('dequantised'));

    const [x, wanted] = [await floats('x'), await floats(inner.has('y') ? 'y' : 'ref')];
    const { inFeatures, outFeatures, bias } = weight;
    for (const [i, value] of wanted.entries()) {
      const [row, n] = [Math.floor(i / outFeatures), i % outFeatures];
      let [sum, magnitude] = [bias?.[n] ?? 0, 0];
      for (let k = 0; k < inFeatures; k++) {
        const product = x[row * inFeatures + k]! * dequantized[n * inFeatures + k]!;
        sum += product;
        magnitude += Math.abs(product);
      }
      // y comes from the scales before they were rounded to f16; the CUDA reference is f16 throughout, and its own test allows 2e-2.
      expect(Math.abs(sum - value)).toBeLessThan(inner.has('y') ? magnitude * F16_STEP + 1e-5 : 2e-2);
    }
  });
});

/** Rounding to f16 changes a value by at most this part of it. */
const F16_STEP = 2 ** -11;

/**
 * `dequantised` in these files was computed with the solver's f32 scales, which the file holds only as f16. So: every integer and zero is
 * right to 1e-6 under the scale that `dequantised` implies; that scale rounds to the stored one; and the rest of the difference is that rounding.
 */
function expectScalesApart(weight: GptqWeight, dequantized: Float32Array, wanted: Float32Array): void {
  const { inFeatures, outFeatures, groupSize, gIdx, scales } = weight;
  const { quantized, zeros } = unpackGptq(weight);
  const groupAt = (n: number, k: number) => (gIdx?.[k] ?? Math.floor(k / groupSize)) * outFeatures + n;
  /** Of each group, the element with the largest integer: it tells the scale best. */
  const largest = new Map<number, { integer: number; value: number }>();
  const elements = Array.from(wanted, (value, i) => {
    const [n, k] = [Math.floor(i / inFeatures), i % inFeatures];
    const group = groupAt(n, k);
    const integer = quantized[k * outFeatures + n]! - zeros[group]!;
    if (Math.abs(integer) > Math.abs(largest.get(group)?.integer ?? 0)) largest.set(group, { integer, value });
    return { group, integer, value };
  });
  const scaleOf = (group: number) => largest.get(group)!.value / largest.get(group)!.integer;
  const residual = elements.reduce(
    (most, { group, integer, value }) =>
      Math.max(most, Math.abs(integer === 0 ? value : value - scaleOf(group) * integer)),
    0,
  );
  expect(residual).toBeLessThan(1e-6);
  for (const group of largest.keys()) expect(f32ToF16(scaleOf(group))).toBe(scales[group]);
  expect(
    dequantized.every((value, i) => Math.abs(value - wanted[i]!) <= Math.abs(wanted[i]!) * F16_STEP * 1.0001),
  ).toBe(true);
}
