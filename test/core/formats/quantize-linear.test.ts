/** A linear that is quantized some rows at a time is what it would be as a whole. */
import { describe, expect, test } from 'vitest';
import { quantizeInt8 } from '../../../core/formats/int8.ts';
import { nestAbsmax, quantizeBnb4 } from '../../../core/formats/nf4-fp4.ts';
import { quantizeLinear } from '../../../core/formats/quantize-linear.ts';
import { randomOf } from './random.ts';
import { tableOf } from './table-rows.ts';

/** In f32 several reads each: rows that blocks of 64 end in, odd rows, and a last read that is short or a part of a block. */
const SHAPES = [
  [1031, 4096],
  [131, 33_000],
  [709, 3001],
] as const;

function valuesOf(count: number): Float32Array {
  const random = randomOf(count);
  return Float32Array.from({ length: count }, () => random() - 0.5);
}

describe.each(SHAPES)('[%i, %i]', (outFeatures, inFeatures) => {
  const values = valuesOf(outFeatures * inFeatures);

  test.each(['nf4', 'fp4'] as const)('%s', async (method) => {
    const { table, reads } = tableOf(values, outFeatures);
    const weight = await quantizeLinear(table, null, method);
    const { packed, absmax } = quantizeBnb4(values, method, 64);
    expect(weight.kind).toBe('bnb4');
    if (weight.kind !== 'bnb4') return;
    expect(Buffer.compare(weight.packed, packed)).toBe(0);
    expect(weight.absmax).toEqual(nestAbsmax(absmax));
    expectSmallReads(reads, outFeatures, inFeatures);
  });

  test('int8', async () => {
    const { table, reads } = tableOf(values, outFeatures);
    const weight = await quantizeLinear(table, null, 'int8');
    const whole = quantizeInt8(values, outFeatures, inFeatures);
    expect(weight.kind).toBe('int8');
    if (weight.kind !== 'int8') return;
    expect(Buffer.compare(bytesOf(weight.values), bytesOf(whole.values))).toBe(0);
    expect(weight.rowAbsmax).toEqual(whole.rowAbsmax);
    expectSmallReads(reads, outFeatures, inFeatures);
  });

  test('what cannot be quantized is named by its place in the whole', async () => {
    const broken = values.slice();
    const place = broken.length - 5;
    broken[place] = Number.NaN;
    for (const method of ['nf4', 'int8'] as const)
      await expect(quantizeLinear(tableOf(broken, outFeatures).table, null, method)).rejects.toMatchObject({
        failure: {
          code: 'file_invalid',
          file: 'in memory',
          tensor: 'embedding.weight',
          rule: `holds NaN at ${place}, which cannot be quantized`,
        },
      });
  });
});

function bytesOf({ buffer }: Int8Array): Uint8Array {
  return new Uint8Array(buffer);
}

/** All rows once and in order, at most 4 MiB or 64 rows at a time. */
function expectSmallReads(
  reads: readonly (readonly [number, number])[],
  outFeatures: number,
  inFeatures: number,
): void {
  let next = 0;
  for (const [first, count] of reads) {
    expect(first).toBe(next);
    expect(count === 64 || count * inFeatures * 4 <= 4 << 20).toBe(true);
    next += count;
  }
  expect(next).toBe(outFeatures);
  expect(reads.length).toBeGreaterThan(1);
}
