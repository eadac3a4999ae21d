/** bitsandbytes numerics: what its own CPU path gave for the same floats, bit for bit (scripts/fixtures/bitsandbytes.py). */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { DYNAMIC_MAP, quantizeDynamic } from '../../../core/formats/dynamic-map.ts';
import { dequantizeInt8, quantizeInt8 } from '../../../core/formats/int8.ts';
import { absmaxOf, BNB4_TABLES, dequantizeBnb4, nestAbsmax, quantizeBnb4 } from '../../../core/formats/nf4-fp4.ts';
import { torchSum } from '../../../core/formats/torch-sum.ts';
import type { Bnb4Weight, Int8Weight } from '../../../core/model/backend.ts';
import { dequantize, referenceLinear } from '../../../core/model/reference-weights.ts';
import { bits, bytes, fixturePath, floats, openFixture, relativeError } from './fixtures.ts';

interface Case {
  name: string;
  type: 'nf4' | 'fp4' | 'int8';
  shape: [number, number];
  block: number;
  nested: boolean;
}
const { cases } = JSON.parse(readFileSync(fixturePath('bitsandbytes/linears.json'), 'utf8')) as { cases: Case[] };
const linears = await openFixture('bitsandbytes/linears.safetensors');
const sums = await openFixture('bitsandbytes/dynamic-map.safetensors');

test('the tables of NF4, FP4 and the dynamic map are the library’s, to the last bit', async () => {
  expect(bits(DYNAMIC_MAP)).toEqual(bits(await floats(sums, 'map')));
  for (const type of ['nf4', 'fp4'] as const) expect(BNB4_TABLES[type]).toEqual(await floats(sums, type));
});

test.each([1, 7, 8, 31, 64, 257, 1000, 2003])(
  '%i absolute maxima have the library’s mean and 8-bit codes',
  async (count) => {
    const absmax = await floats(sums, `${count}.absmax`);
    const [offset] = await floats(sums, `${count}.offset`);
    expect(Math.fround(torchSum(absmax) / count)).toBe(offset);
    const { codes, absmax: nested } = quantizeDynamic(absmax.map((value) => value - offset!));
    expect(codes).toEqual(await bytes(sums, `${count}.codes`));
    expect(nested).toEqual(await floats(sums, `${count}.nested_absmax`));
  },
);

describe.each(cases.filter(({ type }) => type !== 'int8'))('$name', ({ name, type, shape, block, nested }) => {
  const quantType = type as Bnb4Weight['quantType'];
  const quantized = async (): Promise<Bnb4Weight> => {
    const { packed, absmax } = quantizeBnb4(await floats(linears, `${name}.w`), quantType, block);
    const [outFeatures, inFeatures] = shape;
    return {
      kind: 'bnb4',
      outFeatures,
      inFeatures,
      quantType,
      blockSize: block,
      packed,
      table: BNB4_TABLES[quantType],
      absmax: nested ? nestAbsmax(absmax) : { kind: 'plain', values: absmax },
      bias: null,
    };
  };

  test('packs to the same bytes, ties, zeros and double quantization included', async () => {
    const { packed, absmax: plain } = quantizeBnb4(await floats(linears, `${name}.w`), quantType, block);
    expect(packed).toEqual(await bytes(linears, `${name}.packed`));
    expect(bits(plain)).toEqual(bits(await floats(linears, `${name}.absmax`)));
    const { absmax } = await quantized();
    expect(absmax.kind).toBe(nested ? 'nested' : 'plain');
    if (absmax.kind === 'plain') return;
    expect(absmax.codes).toEqual(await bytes(linears, `${name}.codes`));
    expect(absmax.nested).toEqual(await floats(linears, `${name}.nested_absmax`));
    expect([absmax.offset]).toEqual([...(await floats(linears, `${name}.offset`))]);
  });

  test('gives the same floats and, within f32’s summation, the same product', async () => {
    const weight = await quantized();
    if (linears.tensors.has(`${name}.dequantised`)) {
      const dequantised = await floats(linears, `${name}.dequantised`);
      expect(dequantizeBnb4(weight).every((value, i) => value === dequantised[i])).toBe(true);
    }
    expect(dequantize(weight)).toEqual(dequantizeBnb4(weight));
    const x = await floats(linears, `${name}.x`);
    const y = referenceLinear(x, x.length / shape[1], weight);
    expect(relativeError(y, await floats(linears, `${name}.y`))).toBeLessThan(1e-5);
    expect(absmaxOf(weight).length).toBe(Math.ceil((shape[0] * shape[1]) / block));
  });
});

describe.each(cases.filter(({ type }) => type === 'int8'))('$name', ({ name, shape: [outFeatures, inFeatures] }) => {
  const quantized = async (): Promise<Int8Weight> => ({
    kind: 'int8',
    outFeatures,
    inFeatures,
    ...quantizeInt8(await floats(linears, `${name}.w`), outFeatures, inFeatures),
    threshold: 6,
    bias: await floats(linears, `${name}.bias`),
  });

  test('has the same CB, SCB and dequantised floats', async () => {
    const weight = await quantized();
    expect(new Uint8Array(weight.values.buffer)).toEqual(await bytes(linears, `${name}.CB`));
    expect(weight.rowAbsmax).toEqual(await floats(linears, `${name}.SCB`));
    const dequantised = await floats(linears, `${name}.dequantised`);
    expect(dequantizeInt8(weight).every((value, i) => value === dequantised[i])).toBe(true);
  });

  // The library's CPU path has 6.200124e-5 for 1/127², off by 1.8e-5 of the product; the rest is f32's summation.
  test('gives the same product row by row, outliers included, up to the library’s misprinted constant', async () => {
    const x = await floats(linears, `${name}.x`);
    const y = await floats(linears, `${name}.y`);
    const ours = referenceLinear(x, x.length / inFeatures, await quantized());
    for (let row = 0; row < x.length / inFeatures; row++) {
      const span = [row * outFeatures, (row + 1) * outFeatures] as const;
      expect(relativeError(ours.subarray(...span), y.subarray(...span))).toBeLessThan(3e-5);
    }
  });
});
