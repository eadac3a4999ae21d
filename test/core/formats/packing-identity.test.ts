/** Packing identity: codes that are packed, taken apart and quantized again are the same codes, in every bitsandbytes format. GPTQ's is in gptq.test.ts. */
import { expect, test } from 'vitest';
import { dequantizeInt8, quantizeInt8 } from '../../../core/formats/int8.ts';
import { BNB4_TABLES, dequantizeBnb4, quantizeBnb4 } from '../../../core/formats/nf4-fp4.ts';
import { randomOf } from './random.ts';

test.each(['nf4', 'fp4'] as const)('%s, on 200 shapes and block sizes', (quantType) => {
  const random = randomOf(quantType === 'nf4' ? 21 : 22);
  const table = BNB4_TABLES[quantType];
  for (let round = 0; round < 200; round++) {
    const [outFeatures, inFeatures] = [1 + Math.floor(random() * 9), 1 + Math.floor(random() * 150)];
    const blockSize = 2 ** (5 + Math.floor(random() * 4));
    const count = outFeatures * inFeatures;
    // Each block holds its own maximum; FP4's two zeros are one value, and exactly 0 is code 0.
    const codes = Array.from({ length: count }, (_, i) => {
      const code = i % blockSize === 0 ? table.indexOf(1) : Math.floor(random() * 16);
      return quantType === 'fp4' && code === 8 ? 0 : code;
    });
    if (count % 2 === 1) codes.push(quantType === 'nf4' ? 7 : 0);
    const packed = Uint8Array.from({ length: codes.length / 2 }, (_, i) => (codes[2 * i]! << 4) | codes[2 * i + 1]!);
    const values = Float32Array.from({ length: Math.ceil(count / blockSize) }, () => 2 ** Math.floor(random() * 9 - 4));
    const weight = {
      kind: 'bnb4',
      outFeatures,
      inFeatures,
      quantType,
      blockSize,
      packed,
      table,
      absmax: { kind: 'plain', values },
      bias: null,
    } as const;
    expect(quantizeBnb4(dequantizeBnb4(weight), quantType, blockSize)).toEqual({ packed, absmax: values });
  }
});

test('int8 rows, whatever their length', () => {
  const random = randomOf(23);
  for (let round = 0; round < 200; round++) {
    const [outFeatures, inFeatures] = [1 + Math.floor(random() * 9), 1 + Math.floor(random() * 150)];
    const values = Int8Array.from({ length: outFeatures * inFeatures }, (_, i) =>
      i % inFeatures === 0 ? 127 : Math.floor(random() * 255) - 127,
    );
    // 127/128 of a power of two: then a code's float is close to an f16 and rounds back.
    const rowAbsmax = Float32Array.from({ length: outFeatures }, () => (127 / 128) * 2 ** Math.floor(random() * 9 - 4));
    const weight = { kind: 'int8', outFeatures, inFeatures, values, rowAbsmax, threshold: 6, bias: null } as const;
    expect(quantizeInt8(dequantizeInt8(weight), outFeatures, inFeatures)).toEqual({ values, rowAbsmax });
  }
});
