/** The kernels in workerd, from imported modules: the bits that Node gave. */
import { describe, expect, test } from 'vitest';
import { createWasmBackend } from '../../../wasm/backend.ts';
import plain from '../../../wasm/build/nibble-plain.wasm';
import relaxed from '../../../wasm/build/nibble-relaxed.wasm';
import committed from './bits.json';
import { bitsOfOps } from './bits.ts';

describe('kernels in workerd', () => {
  test('the relaxed build gives the committed bits on every op', async () => {
    expect(await bitsOfOps(() => createWasmBackend(relaxed, 'relaxed'))).toEqual(committed);
  });

  test('the plain build gives the committed bits on every op', async () => {
    expect(await bitsOfOps(() => createWasmBackend(plain, 'plain'))).toEqual(committed);
  });
});
