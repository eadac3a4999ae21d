/** A model's directory as people have them: with links, folders, and names of any kind in it. */
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openLocalModel } from '../../../gpu-worker/store/local.ts';
import { nibble } from '../../end-to-end/running-edge.ts';

const F16 = join(import.meta.dirname, '../../../models/demo/f16');
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
