/** Embedding from GPTQ tables: rows as the dequantised weights have them, of every width, order and group. */
import { describe, expect, test } from 'vitest';
import { gptqOf, tokensBatch } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';
import { dequantize } from './oracle.ts';

describe.each(VARIANTS)('embedding from a gptq table, %s', (variant) => {
  const cases = ([2, 3, 4, 8] as const).flatMap((bits) => [
    { bits, groupSize: 32, sym: true, actOrder: false, inFeatures: 96 },
    { bits, groupSize: 20, sym: false, actOrder: false, inFeatures: 100 },
    { bits, groupSize: 32, sym: false, actOrder: true, inFeatures: 172 },
  ]);
  test.each(cases)('$bits bits, group $groupSize, act-order $actOrder, any ids, times a scale', async (options) => {
    const backend = await backendOf(variant);
    const weight = gptqOf({ ...options, outFeatures: 21 });
    const table = await backend.loadLinear(weight, 'embed');
    const values = dequantize(weight);
    const ids = [20, 0, 7, 8, 8, 15];
    for (const scale of [1, 1.7]) {
      backend.begin(tokensBatch(ids.length));
      const y = await backend.read(backend.embed(table, Int32Array.from(ids), scale));
      const rows = ids.flatMap((id) => [...values.subarray(id * options.inFeatures, (id + 1) * options.inFeatures)]);
      expect([...y]).toEqual(rows.map((value) => Math.fround(value * Math.fround(scale))));
    }
  });

  test('the same table is the head', async () => {
    const backend = await backendOf(variant);
    const table = await backend.loadLinear(
      gptqOf({ outFeatures: 40, inFeatures: 64, groupSize: 32, sym: true }),
      'tied',
    );
    backend.begin(tokensBatch(2));
    const x = backend.embed(table, Int32Array.of(3, 39), 1);
    const logits = await backend.read(backend.linear(x, table));
    const own = (row: number, id: number) => logits[row * 40 + id]!;
    expect(own(0, 3)).toBeGreaterThan(0);
    expect(own(1, 39)).toBeGreaterThan(0);
    expect(own(0, 39)).toBeCloseTo(own(1, 3), 1);
  });
});
