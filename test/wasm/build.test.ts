/** The builds: small enough to ship beside an edge, and the one that was asked for is the one that runs. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import { loadWasmBackend } from '../../wasm/node.ts';
import { VARIANTS } from './kernel-set.ts';

const files = ensureWasmBuilt();
/** `i32x4.relaxed_dot_i8x16_i7x16_add_s`, the prefix and 0x113 as LEB128. */
const RELAXED_DOT = Uint8Array.of(0xfd, 0x93, 0x02);

describe('the builds', () => {
  test('take at most 64 kB together', () => {
    const bytes = VARIANTS.map((variant) => readFileSync(files[variant]).length);
    expect(bytes[0]! + bytes[1]!).toBeLessThanOrEqual(64_000);
  });

  test('the relaxed one has the relaxed dot product, the plain one needs no relaxed SIMD', () => {
    expect(readFileSync(files.relaxed).includes(RELAXED_DOT)).toBe(true);
    expect(readFileSync(files.plain).includes(RELAXED_DOT)).toBe(false);
  });

  test('a backend runs the build it names; left to choose, the relaxed one', async () => {
    for (const [asked, variant] of [
      ['relaxed', 'relaxed'],
      ['plain', 'plain'],
      ['auto', 'relaxed'],
    ] as const) {
      const backend = await loadWasmBackend({ variant: asked });
      expect(backend.variant).toBe(variant);
      expect(backend.device).toContain(variant);
      await backend.dispose();
    }
  });
});
