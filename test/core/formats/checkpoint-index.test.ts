/** Checkpoint index: one file, several, or a lone one; and what is refused. */
import { expect, test } from 'vitest';
import { NibbleError } from '../../../core/errors.ts';
import { MemorySource } from '../../../core/formats/byte-source.ts';
import { type FileSet, openCheckpoint, readJson, readText } from '../../../core/formats/checkpoint-index.ts';
import { fileOfTensors } from './safetensors-bytes.ts';

type Files = Record<string, string | Uint8Array>;

function setOf(files: Files, lone?: Uint8Array): FileSet {
  return {
    name: 'm',
    async open(path) {
      const content = files[path];
      if (content === undefined) return null;
      return new MemorySource(`m/${path}`, typeof content === 'string' ? new TextEncoder().encode(content) : content);
    },
    ...(lone === undefined ? {} : { lone: new MemorySource('lone.safetensors', lone) }),
  };
}

const shard = (...names: string[]) =>
  fileOfTensors(
    names.map((name) => ({ name, dtype: 'U8', shape: [2], bytes: Uint8Array.of(name.length, name.charCodeAt(0)) })),
    { of: names[0]! },
  );
const INDEX = 'model.safetensors.index.json';
const indexOf = (map: unknown) => JSON.stringify({ metadata: { total_size: 1 }, weight_map: map });

test('one model.safetensors is read as it is', async () => {
  const checkpoint = await openCheckpoint(setOf({ 'model.safetensors': shard('a', 'bb') }));
  expect([...checkpoint.tensors.keys()]).toEqual(['a', 'bb']);
  expect([...(await checkpoint.read('bb'))]).toEqual([2, 98]);
  expect(checkpoint.metadata.of).toBe('a');
  expect(checkpoint.has('a') && !checkpoint.has('c')).toBe(true);
  await expect(checkpoint.read('c')).rejects.toThrow(/m: tensor "c": is in none/);
});

test('shards are one checkpoint', async () => {
  const checkpoint = await openCheckpoint(
    setOf({
      [INDEX]: indexOf({ a: 'model-1.safetensors', bb: 'model-2.safetensors' }),
      'model-1.safetensors': shard('a'),
      'model-2.safetensors': shard('bb', 'unlisted'),
    }),
  );
  expect([...(await checkpoint.read('a')), ...(await checkpoint.read('bb'))]).toEqual([1, 97, 2, 98]);
  expect(checkpoint.has('unlisted')).toBe(true);
});

test('a lone file goes before what lies in the directory', async () => {
  const checkpoint = await openCheckpoint(setOf({ 'model.safetensors': shard('a') }, shard('other')));
  expect([...checkpoint.tensors.keys()]).toEqual(['other']);
});

const broken: [string, Files, string, RegExp][] = [
  ['no file at all', {}, 'file_missing', /^m: there is no model.safetensors and no model.safetensors.index.json/],
  ['an index that is not JSON', { [INDEX]: '{' }, 'file_invalid', /index.json: is not JSON/],
  ['an index without a map', { [INDEX]: '{"weight_map":[]}' }, 'file_invalid', /no "weight_map" object/],
  ['an empty map', { [INDEX]: indexOf({}) }, 'file_invalid', /empty "weight_map"/],
  [
    'a shard that is not there',
    { [INDEX]: indexOf({ a: 'x.safetensors' }) },
    'file_missing',
    /there is no x.safetensors, named by/,
  ],
  [
    'a tensor that is not in its shard',
    { [INDEX]: indexOf({ a: 'x.safetensors', b: 'x.safetensors' }), 'x.safetensors': shard('a') },
    'file_invalid',
    /tensor "b": is not in x.safetensors/,
  ],
  [
    'a tensor in two shards',
    {
      [INDEX]: indexOf({ a: 'x.safetensors', b: 'y.safetensors' }),
      'x.safetensors': shard('a', 'both'),
      'y.safetensors': shard('b', 'both'),
    },
    'file_invalid',
    /y.safetensors: tensor "both": is in m\/x.safetensors too/,
  ],
  ...[
    '../x.safetensors',
    'a/x.safetensors',
    '/x.safetensors',
    'a\\x.safetensors',
    '..safetensors',
    '.x.safetensors',
    'x.bin',
    'a..b.safetensors',
    '',
    'x\n.safetensors',
    'C:x.safetensors',
  ].map((path): [string, Files, string, RegExp] => [
    `the path ${JSON.stringify(path)}`,
    { [INDEX]: indexOf({ a: path }) },
    'file_invalid',
    /tensor "a": is mapped to .*, not to a plain/,
  ]),
  ['a path that is no text', { [INDEX]: indexOf({ a: 1 }) }, 'file_invalid', /is mapped to 1/],
];
test.each(broken)('is refused by name: %s', async (_, files, code, message) => {
  const error = await openCheckpoint(setOf(files)).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(NibbleError);
  expect((error as NibbleError).failure.code).toBe(code);
  expect((error as NibbleError).message).toMatch(message);
});

test('small files are read whole, under their cap, or are null when they may be missing', async () => {
  const files = setOf({ 'a.json': '{"x":1}', 'bad.json': '{x}', 'raw.txt': Uint8Array.of(0xff) });
  expect(await readJson(files, 'a.json', 7)).toEqual({ x: 1 });
  expect(await readJson(files, 'none.json', 7)).toBeNull();
  expect(await readText(files, 'none.txt', 7)).toBeNull();
  await expect(readJson(files, 'none.json', 7, 'required')).rejects.toThrow('m: there is no none.json');
  await expect(readJson(files, 'a.json', 6)).rejects.toThrow('m/a.json: has 7 bytes, over the 6');
  await expect(readJson(files, 'bad.json', 6)).rejects.toThrow(/m\/bad.json: is not JSON/);
  await expect(readText(files, 'raw.txt', 6)).rejects.toThrow('m/raw.txt: is not UTF-8');
});
