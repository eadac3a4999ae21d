/** bitsandbytes checkpoints: what is read of a quantized module, and what is refused by tensor and rule. */
import { describe, expect, test } from 'vitest';
import { readBnb4Weight, readInt8Weight } from '../../../core/formats/bitsandbytes.ts';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import { BNB4_TABLES } from '../../../core/formats/nf4-fp4.ts';
import { MAX_QUANT_STATE_BYTES } from '../../../core/formats/quant-state.ts';
import { countParameters, packedTensors, quantizedModules } from '../../../core/formats/quantized-modules.ts';
import { fileOfTensors, type NamedTensor } from './safetensors-bytes.ts';

const checkpointOf = (bytes: Uint8Array) =>
  openCheckpoint({ name: 'm', open: async () => null, lone: new MemorySource('m.safetensors', bytes) });

const STATE = { quant_type: 'nf4', blocksize: 64, dtype: 'float16', shape: [5, 27] };
const NESTED = { ...STATE, nested_blocksize: 256, nested_dtype: 'float32', nested_offset: 0.5 };
const blob = (state: unknown) => {
  const bytes = new TextEncoder().encode(typeof state === 'string' ? state : JSON.stringify(state));
  return { shape: [bytes.length], bytes };
};

/** NF4 [5, 27]: 135 values, 68 bytes, three blocks, the last of seven values. */
const four = (overrides: Record<string, Partial<NamedTensor> | null> = {}, nested = false): Uint8Array => {
  const tensors: NamedTensor[] = [
    { name: 'weight', dtype: 'U8', shape: [68, 1], bytes: new Uint8Array(68).fill(0xf7) },
    nested
      ? { name: 'weight.absmax', dtype: 'U8', shape: [3], bytes: Uint8Array.of(0, 1, 255) }
      : { name: 'weight.absmax', dtype: 'F32', shape: [3], bytes: Float32Array.of(1, 2, 3) },
    { name: 'weight.quant_map', dtype: 'F32', shape: [16], bytes: BNB4_TABLES.nf4 },
    { name: 'weight.quant_state.bitsandbytes__nf4', dtype: 'U8', ...blob(nested ? NESTED : STATE) },
    { name: 'bias', dtype: 'F16', shape: [5], bytes: new Uint16Array(5).fill(0x3800) },
  ];
  if (nested)
    tensors.push(
      { name: 'weight.nested_absmax', dtype: 'F32', shape: [1], bytes: Float32Array.of(2) },
      { name: 'weight.nested_quant_map', dtype: 'F32', shape: [256], bytes: new Float32Array(256).fill(0.25) },
    );
  const changed = tensors.flatMap((tensor) =>
    overrides[tensor.name] === null ? [] : [{ ...tensor, ...overrides[tensor.name] }],
  );
  return fileOfTensors(changed.map((tensor) => ({ ...tensor, name: `l.${tensor.name}` })));
};
const readFour = async (bytes: Uint8Array) => readBnb4Weight(await checkpointOf(bytes), 'l');

describe('4 bits', () => {
  test('shape, blocks and codes come from quant_state and its tensors', async () => {
    const weight = await readFour(four());
    expect(weight).toMatchObject({ kind: 'bnb4', outFeatures: 5, inFeatures: 27, quantType: 'nf4', blockSize: 64 });
    expect(weight.absmax).toEqual({ kind: 'plain', values: Float32Array.of(1, 2, 3) });
    expect([...weight.bias!]).toEqual([0.5, 0.5, 0.5, 0.5, 0.5]);
  });

  test('a nested absmax keeps its codes, their table and the offset', async () => {
    const { absmax } = await readFour(four({}, true));
    expect(absmax).toMatchObject({ kind: 'nested', blockSize: 256, offset: 0.5, codes: Uint8Array.of(0, 1, 255) });
  });

  test('packed bytes may lie in any dtype', async () => {
    const plain = await readFour(four());
    for (const [dtype, elements] of [
      ['BF16', 34],
      ['F32', 17],
      ['I8', 68],
    ] as const)
      expect((await readFour(four({ weight: { dtype, shape: [elements, 1] } }))).packed).toEqual(plain.packed);
  });

  const state = (value: unknown) => ({ 'weight.quant_state.bitsandbytes__nf4': blob(value) });
  const broken: [string, Uint8Array, RegExp][] = [
    [
      'no quant_state',
      four({ 'weight.quant_state.bitsandbytes__nf4': null }),
      /"l.weight": is packed, but there is no/,
    ],
    ['no absmax', four({ 'weight.absmax': null }), /"l.weight.absmax": is missing/],
    [
      'too few bytes',
      four({ weight: { shape: [67, 1], bytes: new Uint8Array(67) } }),
      /67 packed bytes; \[5, 27\] .* 68/,
    ],
    ['too many bytes', four({ weight: { shape: [69, 1], bytes: new Uint8Array(69) } }), /69 packed bytes/],
    [
      'a block short',
      four({ 'weight.absmax': { shape: [2], bytes: new Float32Array(2) } }),
      /absmax": has shape \[2\]/,
    ],
    ['an infinite absmax', four({ 'weight.absmax': { bytes: Float32Array.of(1, 1 / 0, 1) } }), /Infinity at 1/],
    [
      'a map of 15',
      four({ 'weight.quant_map': { shape: [15], bytes: new Float32Array(15) } }),
      /quant_map": has shape/,
    ],
    ['f16 absmax', four({ 'weight.absmax': { dtype: 'F16', bytes: new Uint16Array(3) } }), /dtype F16 instead of F32/],
    ['no nested map', four({ 'weight.nested_quant_map': null }, true), /"l.weight.nested_quant_map": is missing/],
    ['plain absmax for a nested state', four(state(NESTED)), /absmax": has dtype F32 instead of U8/],
    ['a blob over the cap', four(state('x'.repeat(MAX_QUANT_STATE_BYTES + 1))), /has 10001 bytes, over the 10000/],
    ['a blob that is not JSON', four(state('{')), /nf4": is not JSON/],
    ['a blob of Python’s NaN', four(state('{"nested_offset": NaN}')), /nf4": is not JSON/],
    [
      'another type than the name says',
      four(state({ ...STATE, quant_type: 'fp4' })),
      /says quant_type "fp4"; its name/,
    ],
    ['an unknown block size', four(state({ ...STATE, blocksize: 48 })), /blocksize: /],
    ['a shape of three', four(state({ ...STATE, shape: [5, 27, 1] })), /shape: /],
    ['a shape of zero', four(state({ ...STATE, shape: [0, 27] })), /shape.0: /],
    ['a shape beyond any matrix', four(state({ ...STATE, shape: [5, 2 ** 40] })), /shape.1: /],
    ['half a nesting', four(state({ ...STATE, nested_blocksize: 256 })), /one of nested_blocksize and nested_offset/],
  ];
  test.each(broken)('is refused by name: %s', async (_, bytes, message) => {
    await expect(readFour(bytes)).rejects.toMatchObject({
      failure: { code: 'file_invalid' },
      message: expect.stringMatching(message),
    });
  });
});

const eight = (overrides: Record<string, Partial<NamedTensor> | null> = {}): Uint8Array => {
  const tensors: NamedTensor[] = [
    { name: 'weight', dtype: 'I8', shape: [2, 3], bytes: Int8Array.of(127, -127, 0, 1, 2, 3) },
    { name: 'SCB', dtype: 'F32', shape: [2], bytes: Float32Array.of(1, 2) },
    { name: 'weight_format', dtype: 'U8', shape: [], bytes: Uint8Array.of(0) },
  ];
  const changed = tensors.flatMap((tensor) =>
    overrides[tensor.name] === null ? [] : [{ ...tensor, ...overrides[tensor.name] }],
  );
  return fileOfTensors(changed.map((tensor) => ({ ...tensor, name: `l.${tensor.name}` })));
};

describe('8 bits', () => {
  const readEight = async (bytes: Uint8Array) => readInt8Weight(await checkpointOf(bytes), 'l', 6);

  test('rows and their maxima, with or without a format', async () => {
    for (const bytes of [eight(), eight({ weight_format: null })])
      expect(await readEight(bytes)).toEqual({
        kind: 'int8',
        outFeatures: 2,
        inFeatures: 3,
        values: Int8Array.of(127, -127, 0, 1, 2, 3),
        rowAbsmax: Float32Array.of(1, 2),
        threshold: 6,
        bias: null,
      });
  });

  const broken: [string, Uint8Array, RegExp][] = [
    ['an old layout', eight({ weight_format: { bytes: Uint8Array.of(2) } }), /weight_format": is 2; only 0/],
    ['no SCB', eight({ SCB: null }), /"l.SCB": is missing/],
    ['a short SCB', eight({ SCB: { shape: [1], bytes: new Float32Array(1) } }), /"l.SCB": has shape \[1\]; .*\[2\]/],
    ['plain weights', eight({ weight: { dtype: 'F16', bytes: new Uint16Array(6) } }), /dtype F16 instead of I8/],
    ['no rows', eight({ weight: { shape: [0, 3], bytes: new Int8Array(0) } }), /\[0, 3\] is empty/],
  ];
  test.each(broken)('is refused by name: %s', async (_, bytes, message) => {
    await expect(readEight(bytes)).rejects.toThrow(message);
  });
});

test('modules are found by their marks, and count what they stand for', async () => {
  const bytes = four({}, true);
  const checkpoint = await checkpointOf(bytes);
  const modules = quantizedModules(checkpoint);
  expect(modules).toEqual([{ prefix: 'l', kind: '4bit' }]);
  expect([...packedTensors(checkpoint, modules)].sort()).toEqual(
    [...checkpoint.tensors.keys()].filter((name) => name !== 'l.bias').sort(),
  );
  expect(await countParameters(checkpoint, 0)).toBe(5 * 27 + 5);
  expect(quantizedModules(await checkpointOf(eight()))).toEqual([{ prefix: 'l', kind: 'int8' }]);
});
