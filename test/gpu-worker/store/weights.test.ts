/** `nibble weights` as its users meet it, on miniflare's S3. */
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { S3Bucket } from '../../../gpu-worker/store/s3-bucket.ts';
import { nibble } from '../../end-to-end/running-edge.ts';
import { BUCKET } from './local-s3.ts';
import { AT, F16, json, run, s3 } from './weights-under-test.ts';

/** A pushed model whose largest file is no longer what was pushed. */
async function pushDamaged(name: string): Promise<void> {
  await s3.push(F16, name);
  const bucket = new S3Bucket(BUCKET, s3.direct);
  const [largest] = (await bucket.list(`${name}/blobs/`)).sort((a, b) => b.bytes - a.bytes);
  await bucket.writeSmall(largest!.key, new Uint8Array(largest!.bytes), 'application/octet-stream');
  bucket.close();
}

describe('nibble weights', () => {
  test('what was pushed is listed, verified, loaded from, and comes back byte for byte', async () => {
    const pushed = await json('weights', 'push', F16, `${AT}/round/trip`, '--name', 'the demo');
    expect(pushed).toMatchObject({
      address: `${AT}/round/trip`,
      files: 5,
      manifest: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(pushed.sent_bytes).toBe(pushed.bytes);
    const { models } = await json('weights', 'list', `${AT}/round`);
    expect(models).toEqual([
      {
        address: `${AT}/round/trip`,
        model: 'the demo',
        quantization: null,
        manifest: pushed.manifest,
        files: 5,
        bytes: pushed.bytes,
      },
    ]);
    expect(await json('weights', 'verify', `${AT}/round/trip`)).toEqual({
      address: `${AT}/round/trip`,
      files: 5,
      bytes: pushed.bytes,
      broken: [],
    });
    const out = join(s3.directory, 'pulled');
    expect(await json('weights', 'pull', `${AT}/round/trip`, out)).toMatchObject({ files: 5, verified: true });
    const names = (await readdir(F16)).sort();
    expect((await readdir(out)).sort()).toEqual(names);
    for (const name of names)
      expect(Buffer.compare(await readFile(join(out, name)), await readFile(join(F16, name)))).toBe(0);
    const [there, here] = [await json('inspect', `${AT}/round/trip`), await json('inspect', F16)];
    expect(there).toEqual(here);
  });

  test('a model, or a lone layer, is quantized from there as from this disk; a second run fetches nothing', async () => {
    const texts = join(s3.directory, 'texts.json');
    await writeFile(texts, '["Once upon a time, there was a kind fox named Milo."]');
    await s3.push(F16, 'to/quantize');
    const outs = ['here', 'there', 'again'].map((name) => join(s3.directory, name));
    for (const [i, model] of [F16, `${AT}/to/quantize`, `${AT}/to/quantize`].entries()) {
      s3.proxy.reset();
      expect(await json('quantize', model, outs[i]!, '--dataset', texts)).toMatchObject({ quantized: 28 });
    }
    expect(s3.proxy.blobReads).toBe(0);
    const [here, ...others] = await Promise.all(outs.map((out) => readFile(join(out, 'model.safetensors'))));
    for (const other of others) expect(Buffer.compare(other, here!)).toBe(0);
    const layer = join(F16, '../../../test/fixtures/gptq/solver/w4-g32-asym-act.safetensors');
    const bucket = new S3Bucket(BUCKET, s3.direct);
    await bucket.writeSmall('layers/one.safetensors', await readFile(layer), 'application/octet-stream');
    bucket.close();
    const packed = join(s3.directory, 'packed.safetensors');
    expect(await json('quantize', `${AT}/layers/one.safetensors`, packed, '--groupsize', '32')).toMatchObject({
      damping: 0.01,
    });
  });

  test('a second push of the same files sends none; one of changed files sends those, and who read the first goes on', async () => {
    const copy = join(s3.directory, 'changing');
    await cp(F16, copy, { recursive: true });
    const first = await json('weights', 'push', copy, `${AT}/changing`);
    expect((await json('weights', 'push', copy, `${AT}/changing`)).sent_bytes).toBe(0);
    await writeFile(join(copy, 'generation_config.json'), '{}');
    const second = await json('weights', 'push', copy, `${AT}/changing`);
    expect(second.sent_bytes).toBe(2);
    expect(second.manifest).not.toBe(first.manifest);
    const bucket = new S3Bucket(BUCKET, s3.direct);
    expect(await bucket.head(`changing/manifests/${first.manifest}.json`)).not.toBeNull();
    bucket.close();
  });

  test('verify names what is damaged, and ends with 1', async () => {
    await pushDamaged('broken');
    const { code, stderr } = await run('weights', 'verify', `${AT}/broken`);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^nibble weights: s3:\/\/nibble-weights\/broken: 1 of 5 files are damaged; the first: s3:\/\/nibble-weights\/broken\/model.safetensors: bytes \[0, 4194304\) have the checksum [0-9a-f]{8}, the manifest says [0-9a-f]{8}; nibble weights push --force sends it again\n$/,
    );
    const report = await nibble(['weights', 'verify', `${AT}/broken`, '--json'], s3.environment);
    expect(JSON.parse(report.stdout).broken).toEqual([
      { file: 'model.safetensors', reason: expect.stringContaining('have the checksum') },
    ]);
  });

  test('what is damaged is whole again after push --force, as its sentence says', async () => {
    await pushDamaged('mended');
    const { stderr } = await run('weights', 'verify', `${AT}/mended`);
    expect(stderr).toMatch(/; nibble weights push --force sends it again\n$/);
    const pushed = await json('weights', 'push', F16, `${AT}/mended`, '--force');
    expect(pushed.sent_bytes).toBe(pushed.bytes);
    expect((await json('weights', 'verify', `${AT}/mended`)).broken).toEqual([]);
  });

  test('files of unusual names go and come; one that no system would take is refused before anything is sent', async () => {
    const model = join(s3.directory, 'unusual');
    await cp(F16, model, { recursive: true });
    for (const name of ['notes (1), über.md', 'README~']) await writeFile(join(model, name), 'text');
    expect(await json('weights', 'push', model, `${AT}/unusual`)).toMatchObject({ files: 7 });
    expect(await json('weights', 'verify', `${AT}/unusual`)).toMatchObject({ files: 7, broken: [] });
    expect(await json('weights', 'pull', `${AT}/unusual`, join(s3.directory, 'usual'))).toMatchObject({ files: 7 });
    await writeFile(join(model, 'a\\b.md'), 'text');
    expect(await run('weights', 'push', model, `${AT}/refused`)).toEqual({
      code: 1,
      stdout: '',
      stderr: `nibble weights: ${model}: a file is named "a\\b.md", which not every system takes; rename or remove it\n`,
    });
    expect((await json('weights', 'list', `${AT}/refused`)).models).toEqual([]);
  });

  test('a list shows what is well beside what is not, and ends with 1', async () => {
    await s3.push(F16, 'listed/good');
    const bad = await s3.push(F16, 'listed/bad');
    const bucket = new S3Bucket(BUCKET, s3.direct);
    await bucket.writeSmall(`listed/bad/manifests/${bad.id}.json`, new Uint8Array(10), 'application/json');
    bucket.close();
    const { code, stdout, stderr } = await run('weights', 'list', `${AT}/listed`, '--json');
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /^nibble weights: s3:\/\/nibble-weights\/listed: 1 of 2 models cannot be read; the first: .*\/bad\/manifests\/.*: has the SHA-256 [0-9a-f]{64}; its name says [0-9a-f]{64}\n$/,
      ),
    ]);
    const { models, broken } = JSON.parse(stdout);
    expect(models).toMatchObject([{ address: `${AT}/listed/good` }]);
    expect(broken).toEqual([{ address: `${AT}/listed/bad`, reason: expect.stringContaining('has the SHA-256') }]);
  });

  test('files that anybody uploaded, without a manifest, load too; a lone file is inspected', async () => {
    const bucket = new S3Bucket(BUCKET, s3.direct);
    for (const name of await readdir(F16))
      await bucket.writeSmall(`anybody/${name}`, await readFile(join(F16, name)), 'application/octet-stream');
    bucket.close();
    const [remote, local] = await Promise.all(
      [`${AT}/anybody`, F16].map((model) =>
        json('generate', '--model-id', model, '--prompt', 'Once', '--max-new-tokens', '8'),
      ),
    );
    expect(remote.ids).toEqual(local.ids);
    const lone = await json('inspect', `${AT}/anybody/model.safetensors`);
    expect(lone.tensors).toEqual((await json('inspect', F16)).tensors);
  });

  test.for([
    [['weights', 'fetch', `${AT}/x`], 2, 'nibble weights: "fetch" is none of push, pull, list, verify; see --help\n'],
    [
      ['weights', 'push', F16],
      2,
      'nibble weights: nibble weights push takes MODEL and s3://BUCKET/PREFIX; see --help\n',
    ],
    [['weights'], 2, 'nibble weights: ACTION is missing; see --help\n'],
    [
      ['weights', 'push', F16, 'elsewhere'],
      2,
      'nibble weights: "elsewhere" is not an address of the form s3://bucket/prefix\n',
    ],
    [
      ['weights', 'verify', `${AT}/nothing`],
      1,
      `nibble weights: ${AT}/nothing: there is no manifest to hold files against; nibble weights push writes one\n`,
    ],
    [
      ['weights', 'pull', `${AT}/nothing`, '/tmp/never'],
      1,
      `nibble weights: ${AT}/nothing: there is no model: no object lies there (nibble weights push publishes one)\n`,
    ],
    [
      ['weights', 'push', join(F16, 'config.json'), `${AT}/x`],
      1,
      `nibble weights: ${join(F16, 'config.json')}: there is no .safetensors file to push\n`,
    ],
    [
      ['inspect', `${AT}/x`, '--revision', 'v1'],
      2,
      `nibble inspect: --revision is for models on the Hub; ${AT}/x is none\n`,
    ],
    [
      ['weights', 'pull', `${AT}/x`, '/tmp/never', '--revision', 'v1'],
      2,
      'nibble weights: --revision is for nibble weights push\n',
    ],
    [
      ['quantize', `${AT}/nothing`, '/tmp/never', '--dataset', 'texts.json'],
      1,
      `nibble quantize: ${AT}/nothing: there is no model: no object lies there (nibble weights push publishes one)\n`,
    ],
    [
      ['dev', '--no-worker', '--store', 's3'],
      2,
      'nibble dev: --store s3 is what a worker loads from; --no-worker has none\n',
    ],
    [
      ['dev', '--no-worker', '--model-id', `${AT}/x`],
      2,
      `nibble dev: --no-worker serves a model from a directory of this machine; nibble weights pull ${AT}/x DIR makes one\n`,
    ],
    [
      ['dev', '--no-worker', '--model-id', 'org/model'],
      2,
      'nibble dev: --no-worker serves a model from a directory of this machine; there is none at org/model, and a model on the Hub has to be downloaded first\n',
    ],
  ] as const)('%j ends with its sentence', async ([args, code, sentence]) => {
    expect(await run(...args)).toEqual({ code, stdout: '', stderr: sentence });
  });
});
