/** Models on the Hub: fetched whole or not at all, going on where a download was cut short; uploaded only with a token. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { downloadModel, uploadModel } from '../../gpu-worker/store/hub.ts';
import { checkUpload, hubAccess, isHubId } from '../../gpu-worker/store/hub-access.ts';
import { COMMIT, HubServer } from './hub-server.ts';

let hub: HubServer;
let cache: string;
const weights = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 251));
beforeEach(async () => {
  hub = await HubServer.start();
  cache = await mkdtemp(join(tmpdir(), 'nibble-hub-'));
  const files = { 'config.json': '{}', 'tokenizer.json': '{}', 'README.md': '# x', 'pytorch_model.bin': 'x' };
  const all = Object.entries(files).map(([name, text]): [string, Buffer] => [name, Buffer.from(text)]);
  hub.models.set('org/tiny', new Map([...all, ['model.safetensors', weights]]));
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});
const access = (token: string | null = null) => ({ endpoint: hub.url, token });
const download = (more: object = {}) => downloadModel('org/tiny', { revision: null, cache, access: access(), ...more });

test('a model is fetched once, and only what it is read from', async () => {
  const directory = await download();
  expect(directory).toBe(join(cache, 'models--org--tiny', 'snapshots', COMMIT));
  expect((await readdir(directory)).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
  expect(await readFile(join(directory, 'model.safetensors'))).toEqual(weights);
  hub.requests.length = 0;
  expect(await download({ revision: 'v1' })).toBe(directory);
  expect(hub.requests.filter((request) => request.includes('/resolve/'))).toEqual([]);
});

test('a download that breaks off goes on from its last byte', async () => {
  hub.breaks.push(100_000, 50_000);
  const directory = await download();
  expect(await readFile(join(directory, 'model.safetensors'))).toEqual(weights);
  const ranges = hub.requests.filter((request) => request.includes('model.safetensors')).map((r) => r.split(' ')[2]);
  expect(ranges[0]).toBeUndefined();
  expect(ranges.length).toBe(3);
  for (const range of ranges.slice(1)) expect(range).toMatch(/^bytes=[1-9]\d*-$/);
});

test('what an earlier run left is used, and wrong bytes are found and deleted', async () => {
  const directory = await download();
  const file = join(directory, 'model.safetensors');
  await rm(file);
  await writeFile(`${file}.unfinished`, weights.subarray(0, 299_000));
  hub.requests.length = 0;
  await download();
  expect(hub.requests).toContain(`GET /org/tiny/resolve/${COMMIT}/model.safetensors bytes=299000-`);
  expect(await readFile(file)).toEqual(weights);

  await rm(file);
  await writeFile(`${file}.unfinished`, Buffer.alloc(1000));
  await expect(download()).rejects.toThrow(/model\.safetensors: its hash is .*; it was deleted, try again/);
  expect(await readdir(directory)).not.toContain('model.safetensors.unfinished');
  await download();
  expect(await readFile(file)).toEqual(weights);
});

test('an unknown model, a private one and an unknown revision are said; without a connection the last fetch serves', async () => {
  await expect(downloadModel('org/none', { revision: null, cache, access: access() })).rejects.toThrow(
    /org\/none: there is no such directory here, and no model of that name at .*; a private one needs HF_TOKEN/,
  );
  await expect(download({ revision: 'v9' })).rejects.toThrow(/at revision v9/);
  hub.isPrivate = true;
  await expect(download()).rejects.toThrow(/needs HF_TOKEN/);
  const directory = await download({ access: access(hub.token) });
  const gone = { endpoint: 'http://127.0.0.1:9', token: null };
  expect(await download({ access: gone })).toBe(directory);
  await expect(downloadModel('org/other', { revision: null, cache, access: gone })).rejects.toThrow(/did not answer/);
});

test('a Hub that is out of order is said with its status; the last fetch serves', async () => {
  const directory = await download();
  for (const status of [429, 500, 503]) {
    hub.status = status;
    expect(await download()).toBe(directory);
    await expect(downloadModel('org/other', { revision: null, cache, access: access() })).rejects.toThrow(
      new RegExp(
        `^org/other: there is no such directory or file here, and ${hub.url} at revision main answered ${status}$`,
      ),
    );
  }
});

test('a file that is refused for a while is asked for again', async () => {
  hub.refusals.push(429, 503);
  const directory = await download();
  expect(await readFile(join(directory, 'model.safetensors'))).toEqual(weights);
});

test('a directory goes up as one commit, into a model that is made for it', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'nibble-up-'));
  await writeFile(join(directory, 'config.json'), '{"a":1}');
  await writeFile(join(directory, 'model.safetensors'), weights);
  const url = await uploadModel(directory, 'me/quantized', access(hub.token));
  expect(url).toBe(`${hub.url}/me/quantized/commit/${COMMIT}`);
  const files = hub.models.get('me/quantized')!;
  expect([...files.keys()].sort()).toEqual(['config.json', 'model.safetensors']);
  expect(files.get('model.safetensors')).toEqual(weights);
  await expect(uploadModel(directory, 'me/quantized', access('hf_wrong'))).rejects.toThrow(
    /me\/quantized: the upload to .* failed: .*; .* is whole: "hf upload me\/quantized .*" sends it/,
  );
  await rm(directory, { recursive: true });
});

test('ids, tokens and endpoints are what they must be', () => {
  expect(['a/b', 'Org-1/model.v2_x'].every(isHubId)).toBe(true);
  expect(['a', 'a/b/c', '../b', './b', '/a/b', 'a/..', 'C:\\a/b'].some(isHubId)).toBe(false);
  expect(() => checkUpload('a/b', access())).toThrow(/needs a token in HF_TOKEN/);
  expect(() => checkUpload('a/b', access('t'))).toThrow(/HF_TOKEN is no token of the Hub: one begins with hf_/);
  expect(() => checkUpload('b', access('t'))).toThrow(/organization\/name is needed/);
  expect(hubAccess({ HF_ENDPOINT: 'https://mirror/', HF_TOKEN: 't' })).toEqual({
    endpoint: 'https://mirror',
    token: 't',
  });
});
