/** Safetensors: what is read, and by which rule a broken file is refused. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { NibbleError } from '../../../core/errors.ts';
import { type ByteSource, MemorySource } from '../../../core/formats/byte-source.ts';
import { findDuplicateKey } from '../../../core/formats/json-keys.ts';
import { MAX_HEADER_BYTES, openSafetensors } from '../../../core/formats/safetensors.ts';
import { DTYPE_BITS } from '../../../core/formats/safetensors-header.ts';
import { sharedData } from '../../shared-data.ts';
import { randomOf } from './random.ts';
import { fileOf } from './safetensors-bytes.ts';

const open = (bytes: Uint8Array) => openSafetensors(new MemorySource('w.safetensors', bytes));

describe('a well-formed file', () => {
  const header = JSON.stringify({
    __metadata__: { format: 'pt', toString: 'kept' },
    second: { dtype: 'BF16', shape: [3], data_offsets: [8, 14] },
    first: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
    empty: { dtype: 'I64', shape: [4, 0], data_offsets: [8, 8] },
    scalar: { dtype: 'U8', shape: [], data_offsets: [14, 15] },
  });

  test('gives its tensors in the order of their bytes, with offsets in the file', async () => {
    const file = await open(fileOf(`${header}   `, 15));
    expect([...file.tensors.keys()]).toEqual(['first', 'empty', 'second', 'scalar']);
    const begin = 8 + header.length + 3;
    expect(file.tensors.get('second')).toEqual({
      name: 'second',
      dtype: 'BF16',
      shape: [3],
      begin: begin + 8,
      end: begin + 14,
    });
  });

  test('gives exactly the bytes of a tensor, of a part of it, and none of an empty one', async () => {
    const file = await open(fileOf(header, 15));
    expect([...(await file.read('second'))]).toEqual([8, 9, 10, 11, 12, 13]);
    expect([...(await file.readRange('second', 2, 3))]).toEqual([10, 11, 12]);
    expect([...(await file.read('empty'))]).toEqual([]);
    expect([...(await file.read('scalar'))]).toEqual([14]);
  });

  test('gives its metadata as own keys of an object without a prototype', async () => {
    const { metadata } = await open(fileOf(header, 15));
    expect({ ...metadata }).toEqual({ format: 'pt', toString: 'kept' });
    expect(metadata.valueOf).toBeUndefined();
  });

  test('may have no tensors at all', async () => {
    expect((await open(fileOf('{}', 0))).tensors.size).toBe(0);
  });

  test('may name a tensor or a metadata key __proto__, and pollutes nothing', async () => {
    const text = '{"__metadata__":{"__proto__":"m"},"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}';
    const file = await open(fileOf(text, 1));
    expect([...(await file.read('__proto__'))]).toEqual([0]);
    expect(Object.entries(file.metadata)).toEqual([['__proto__', 'm']]);
    expect(({} as { dtype?: string }).dtype).toBeUndefined();
  });

  test.each(Object.entries(DTYPE_BITS))('may hold %s at %i bits', async (dtype, bits) => {
    const file = await open(fileOf(JSON.stringify({ t: { dtype, shape: [2, 4], data_offsets: [0, bits] } }), bits));
    expect((await file.read('t')).length).toBe(bits);
  });
});

describe('a broken file', () => {
  const one = (fields: object, dataBytes = 4) =>
    fileOf(JSON.stringify({ t: { dtype: 'F32', shape: [1], data_offsets: [0, 4], ...fields } }), dataBytes);
  const two = (a: [number, number], b: [number, number], dataBytes: number) =>
    fileOf(
      JSON.stringify({
        a: { dtype: 'U8', shape: [a[1] - a[0]], data_offsets: a },
        b: { dtype: 'U8', shape: [b[1] - b[0]], data_offsets: b },
      }),
      dataBytes,
    );
  const cases: [string, Uint8Array, RegExp][] = [
    ['shorter than a length', new Uint8Array(7), /^w.safetensors: has 7 bytes; a safetensors file starts/],
    ['header over the cap', fileOf('{}', 0, MAX_HEADER_BYTES + 1), /claims a header of 100000001 bytes, over/],
    [
      'header of 2^64 - 1 bytes',
      fileOf('{}', 0, 2n ** 64n - 1n),
      /claims a header of 18446744073709551615 bytes, over/,
    ],
    ['header beyond the file', fileOf('{}', 0, 3), /claims a header of 3 bytes but has 2/],
    ['header of no bytes', fileOf('', 0), /does not start with "{"/],
    ['header that is not UTF-8', Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff), /not UTF-8/],
    ['byte order mark', fileOf('\ufeff{}', 0), /does not start with "{"/],
    ['header that is not JSON', fileOf('{"t":', 0), /not JSON/],
    ['header that is a list', fileOf('[]', 0), /does not start with "{"/],
    ['key twice', fileOf('{"a":1,"\\u0061":2}', 0), /the key "a" twice/],
    ['metadata that is no object', fileOf('{"__metadata__":[]}', 0), /__metadata__ is not an object/],
    ['metadata that is no text', fileOf('{"__metadata__":{"n":1}}', 0), /__metadata__ "n" is not a string/],
    ['tensor that is no object', fileOf('{"t":[]}', 0), /tensor "t": is not an object/],
    ['unknown dtype', one({ dtype: 'F7' }), /tensor "t": has the unknown dtype "F7"/],
    ['dtype of the prototype', one({ dtype: 'toString' }), /unknown dtype "toString"/],
    ['no dtype', one({ dtype: undefined }), /unknown dtype undefined/],
    ['shape that is no list', one({ shape: 1 }), /tensor "t": has a shape that is not/],
    ['negative size', one({ shape: [-1] }), /shape that is not/],
    ['fraction as size', one({ shape: [1.5] }), /shape that is not/],
    ['size over 2^53', one({ shape: [2 ** 53] }), /shape that is not/],
    ['too many dimensions', one({ shape: Array(65).fill(1) }), /at most 64/],
    ['shape that overflows', one({ shape: [2 ** 30, 2 ** 30] }), /size overflows: \[1073741824, 1073741824\]/],
    ['shape that overflows before a zero', one({ shape: [2 ** 40, 2 ** 40, 0] }), /overflows/],
    ['one offset', one({ data_offsets: [4] }), /data_offsets that are not two integers/],
    ['offsets backwards', one({ data_offsets: [4, 0] }), /run backwards: \[4, 0\]/],
    ['offsets beyond the data', one({ data_offsets: [0, 8] }), /\[0, 8\] beyond the 4 bytes/],
    ['fewer bytes than the shape', one({ shape: [2] }), /tensor "t": has 4 bytes; F32 \[2\] needs 8/],
    ['half a byte', one({ dtype: 'F4', shape: [3], data_offsets: [0, 2] }, 2), /is 12 bits of F4/],
    ['overlap', two([0, 4], [3, 6], 6), /tensor "b": overlaps the tensor before it by 1 bytes/],
    ['gap', two([0, 4], [6, 8], 8), /tensor "b": leaves a gap of 2 bytes/],
    ['gap at the start', one({ data_offsets: [1, 5] }, 5), /tensor "t": leaves a gap of 1 bytes/],
    ['bytes behind the last tensor', one({}, 6), /2 bytes at its end belong to no tensor/],
    ['name too long', fileOf(JSON.stringify({ ['n'.repeat(1025)]: {} }), 0), /the name has 1025 characters, over 1024/],
  ];
  test.each(cases)('is refused by name: %s', async (_, bytes, message) => {
    const error = await open(bytes).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(NibbleError);
    expect((error as NibbleError).failure.code).toBe('file_invalid');
    expect((error as NibbleError).message).toMatch(message);
  });

  test('is refused when the source delivers less than it said', async () => {
    const bytes = fileOf(JSON.stringify({ t: { dtype: 'U8', shape: [9], data_offsets: [0, 9] } }), 9);
    const source: ByteSource = {
      name: 'cut.safetensors',
      size: bytes.length,
      read: async (offset, length) => bytes.subarray(offset, Math.min(offset + length, bytes.length - 5)),
    };
    const file = await openSafetensors(source);
    await expect(file.read('t')).rejects.toThrow(/cut.safetensors: tensor "t": 4 bytes came back instead of 9/);
    await expect(file.read('u')).rejects.toThrow(/tensor "u": is not in this file/);
    await expect(file.readRange('t', 5, 5)).rejects.toThrow(/outside its 9/);
  });
});

test('keys are compared after escapes, within one object, at any depth', () => {
  expect(findDuplicateKey('{"a":{"b":1,"c":["b",{"b":2}]},"b":"a"}')).toBeNull();
  expect(findDuplicateKey('{"a":{"b":1, "\\u0062" : 2}}')).toBe('b');
  expect(findDuplicateKey('{"a":"\\",\\"a\\":1","x":1}')).toBeNull();
});

test('20,000 mutated headers are read or refused by name, never anything else', async () => {
  const random = randomOf(20260);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;
  const tokens = [
    '{',
    '}',
    '[',
    ']',
    '"',
    ',',
    ':',
    '-1',
    '0',
    '1e9',
    '9007199254740993',
    'null',
    '"F32"',
    '"__proto__"',
    '\\',
    '\u0000',
    '"a":',
    ' ',
  ];
  const base =
    '{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}}';
  let read = 0;
  for (let round = 0; round < 20_000; round++) {
    let text = base;
    for (let edits = Math.floor(random() * 4); edits >= 0; edits--) {
      const at = Math.floor(random() * (text.length + 1));
      const cut = random() < 0.5 ? Math.floor(random() * 6) : 0;
      text = text.slice(0, at) + (random() < 0.7 ? pick(tokens) : '') + text.slice(at + cut);
    }
    const bytes = fileOf(text, pick([19, 19, 19, 18, 20, 0]));
    if (random() < 0.2) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    const part = random() < 0.1 ? bytes.subarray(0, Math.floor(random() * bytes.length)) : bytes;
    try {
      const file = await open(part);
      let covered = 0;
      for (const name of file.tensors.keys()) covered += (await file.read(name)).length;
      expect(covered).toBeLessThanOrEqual(part.length);
      read++;
    } catch (error) {
      if (!(error instanceof NibbleError) || error.failure.code !== 'file_invalid') throw error;
    }
  }
  expect(read).toBeGreaterThan(100);
});

const stories = sharedData('stories260k/model.safetensors');
test.skipIf(stories === null)(
  'a real model file opens and its tensors cover it (skipped without shared data)',
  async () => {
    const bytes = readFileSync(stories!);
    const file = await openSafetensors(new MemorySource('stories', bytes));
    expect(file.tensors.get('model.embed_tokens.weight')).toMatchObject({ dtype: 'F32', shape: [512, 64] });
    expect((await file.read('model.embed_tokens.weight')).length).toBe(512 * 64 * 4);
  },
);
