/** The loops that measure what the machine can do. */
import { describe, expect, test } from 'vitest';
import { backendOf, kernelsOf, VARIANTS } from './kernel-set.ts';
import { random } from './oracle.ts';

describe.each(VARIANTS)('limits, %s', (variant) => {
  test('read_limit reads every byte', () => {
    const { kernels, memory } = kernelsOf(variant);
    const draw = random(1);
    const words = Uint32Array.from({ length: 5 * 32 }, () => Math.floor(draw() * 2 ** 32));
    const address = memory.step(words.byteLength);
    memory.u32(address, words.length).set(words);
    expect(kernels.read_limit(address, words.byteLength)).toBe(words.reduce((all, word) => all ^ word, 0));
    // Any word counts.
    for (const at of [0, 37, words.length - 1]) {
      memory.u32(address, words.length)[at]! ^= 0x10000;
      expect(kernels.read_limit(address, words.byteLength)).toBe(words.reduce((all, word) => all ^ word, 0x10000));
      memory.u32(address, words.length)[at]! ^= 0x10000;
    }
  });

  test('a backend gives rates and its memory back', async () => {
    const backend = await backendOf(variant);
    const before = backend.usedBytes;
    for (const { what, perSecond } of [await backend.measureBandwidth(), await backend.measureMatmul()]) {
      expect(what).not.toBe('');
      expect(Number.isFinite(perSecond) && perSecond > 0).toBe(true);
    }
    expect(backend.usedBytes).toBe(before);
    expect(backend.device).toContain(variant);
    await backend.dispose();
  });
});
