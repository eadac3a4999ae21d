/** A model's directory as people have them: with links, folders, and names of any kind in it. */
import { cp, mkdir, mkdtemp, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openLocalModel } from '../../../gpu-worker/store/local.ts';
import { nibble } from '../../end-to-end/running-edge.ts';

const F16 = join(import.meta.dirname, '../../../models/demo/f16');
/** More than Node reads at once; as Gemma 3 27B's embedding. */
const TENSOR_BYTES = 2 ** 31 + 4096;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nibble-local-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test('links to files are files of the model; links to folders, and links to nothing, are not', async () => {
  await mkdir(join(directory, 'model/folder'), { recursive: true });
  await writeFile(join(directory, 'model/config.json'), '{}');
  await writeFile(join(directory, 'blob'), '{}');
  await symlink('../blob', join(directory, 'model/tokenizer.json'));
  await symlink('folder', join(directory, 'model/onnx'));
  await symlink('/nowhere/at/all', join(directory, 'model/gone.json'));
  const files = await openLocalModel(join(directory, 'model'));
  expect((await files.list()).toSorted()).toEqual(['config.json', 'tokenizer.json']);
  expect((await files.fingerprint()).map(([name]) => name)).toEqual(['config.json', 'tokenizer.json']);
  expect(await files.identity()).toMatch(/^[0-9a-f]{64}$/);
  await files.close();
});

test('a model with such links beside its files is quantized', async () => {
  const [model, out, data] = [join(directory, 'model'), join(directory, 'out'), join(directory, 'texts.json')];
  await cp(F16, model, { recursive: true });
  await symlink(directory, join(model, 'onnx'));
  await symlink('/nowhere/at/all', join(model, 'gone.json'));
  await writeFile(data, '["Once upon a time, there was a kind fox named Milo."]');
  const { code, stderr } = await nibble(['quantize', model, out, '--dataset', data, '--nsamples', '1']);
  expect([code, stderr]).toEqual([0, '']);
  expect(await readdir(out)).not.toContain('onnx');
});

test.skipIf(freemem() < 2 * TENSOR_BYTES)('a tensor of more than 2 GiB is read whole', async () => {
  const path = join(directory, 'large');
  // All zeros, and nothing of them on the disk, but for its first and last bytes.
  await writeFile(path, Uint8Array.of(7));
  await truncate(path, TENSOR_BYTES - 1);
  await writeFile(path, Uint8Array.of(9), { flag: 'a' });
  const files = await openLocalModel(directory);
  const bytes = await (await files.open('large'))!.read(0, TENSOR_BYTES);
  expect([bytes.length, bytes[0], bytes[TENSOR_BYTES - 1]]).toEqual([TENSOR_BYTES, 7, 9]);
  await files.close();
});
