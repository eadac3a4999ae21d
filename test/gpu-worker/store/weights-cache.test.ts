/** --weights-cache as its users meet it, on miniflare's S3. */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { S3Bucket } from '../../../gpu-worker/store/s3-bucket.ts';
import { nibble } from '../../end-to-end/running-edge.ts';
import { HubServer } from '../hub-server.ts';
import { BUCKET } from './local-s3.ts';
import { AT, F16, json, run, s3 } from './weights-under-test.ts';

describe('--weights-cache', () => {
  const generate = (model: string, ...args: string[]) =>
    run('generate', '--model-id', model, '--prompt', 'Once upon', '--max-new-tokens', '12', '--json', ...args);

  test.for(['bitsandbytes', 'bitsandbytes-nf4', 'bitsandbytes-fp4'])(
    '%s: the first worker leaves its packed weights, the next one loads them and says the same, bit for bit',
    async (method) => {
      const flags = ['--quantize', method, '--weights-cache', `${AT}/cache`];
      const first = await generate(F16, ...flags);
      expect(first.stderr).toMatch(
        new RegExp(`^the weights cache has it now: ${AT}/cache/f16/[0-9a-f]{32}/${method}, \\d+ bytes\\n$`),
      );
      const second = await generate(F16, ...flags);
      expect(second.stderr).toMatch(
        new RegExp(`^loading from the weights cache: ${AT}/cache/f16/[0-9a-f]{32}/${method}\\n$`),
      );
      const [a, b] = [JSON.parse(first.stdout), JSON.parse(second.stdout)];
      expect(b.ids).toEqual(a.ids);
      expect(b.logprobs).toEqual(a.logprobs);
      const { models } = await json('weights', 'list', `${AT}/cache`);
      expect(models.filter((model: { quantization: string }) => model.quantization === method)).toHaveLength(1);
    },
  );

  test.for([
    ['damaged', 'have the checksum'],
    ['gone', 'there is no such object'],
  ] as const)('weights that are %s there cost a line and a second load, and are mended', async ([what, why]) => {
    const flags = ['--quantize', 'bitsandbytes-nf4', '--weights-cache', `${AT}/worn-${what}`];
    const first = await generate(F16, ...flags);
    const bucket = new S3Bucket(BUCKET, s3.direct);
    const blobs = (await bucket.list(`worn-${what}/`)).filter(({ key }) => key.includes('/blobs/'));
    const [largest] = blobs.sort((a, b) => b.bytes - a.bytes);
    if (what === 'damaged')
      await bucket.writeSmall(largest!.key, new Uint8Array(largest!.bytes), 'application/octet-stream');
    else await s3.remove(largest!.key);
    bucket.close();
    const second = await generate(F16, ...flags);
    expect(second.code).toBe(0);
    expect(second.stderr.trim().split('\n')).toEqual([
      expect.stringMatching(/^loading from the weights cache: /),
      expect.stringMatching(
        new RegExp(`^the weights cache cannot be used: .*${why}.*; the model is loaded without it$`),
      ),
      expect.stringMatching(/^the weights cache has it now: /),
    ]);
    expect(JSON.parse(second.stdout).logprobs).toEqual(JSON.parse(first.stdout).logprobs);
    const third = await generate(F16, ...flags);
    expect([third.code, third.stderr]).toEqual([0, expect.stringMatching(/^loading from the weights cache: .*\n$/)]);
  });

  test('another model of the same name has another place', async () => {
    const other = join(s3.directory, 'other', 'f16');
    await mkdir(join(s3.directory, 'other'), { recursive: true });
    await cp(F16, other, { recursive: true });
    const weights = await readFile(join(other, 'model.safetensors'));
    weights[weights.length - 2]! ^= 1;
    await writeFile(join(other, 'model.safetensors'), weights);
    const flags = ['--quantize', 'bitsandbytes', '--weights-cache', `${AT}/names`];
    await generate(F16, ...flags);
    expect((await generate(other, ...flags)).stderr).toMatch(/^the weights cache has it now/);
    expect((await json('weights', 'list', `${AT}/names`)).models).toHaveLength(2);
  });

  test('a Hub id is found there without the Hub', async () => {
    await s3.push(F16, 'hub/milo/stories/main/plain');
    const { code, stdout, stderr } = await generate('milo/stories', '--weights-cache', `${AT}/hub`);
    expect([code, stderr]).toEqual([0, `loading from the weights cache: ${AT}/hub/milo/stories/main/plain\n`]);
    expect(JSON.parse(stdout).ids).toEqual(JSON.parse((await generate(F16)).stdout).ids);
  });

  test.for([
    [[], 'plain'],
    [['--quantize', 'bitsandbytes-nf4'], 'bitsandbytes-nf4'],
  ] as const)(
    'a Hub id with %j is fetched from the Hub once and left there; the next worker needs no Hub',
    async ([flags, place]) => {
      const cache = `${AT}/from-hub/${place}`;
      const args = [
        'generate',
        '--model-id',
        'milo/stories',
        '--prompt',
        'Once upon',
        '--max-new-tokens',
        '12',
        '--json',
      ];
      const start = (hub: string) =>
        nibble([...args, '--weights-cache', cache, ...flags], { ...s3.environment, HF_ENDPOINT: hub });
      const hub = await HubServer.start();
      const files = (await readdir(F16)).map(async (name) => [name, await readFile(join(F16, name))] as const);
      hub.models.set('milo/stories', new Map(await Promise.all(files)));
      const first = await start(hub.url).finally(() => hub.close());
      expect(first.stderr).toMatch(
        new RegExp(`^the weights cache has it now: ${cache}/milo/stories/main/${place}, \\d+ bytes\\n$`),
      );
      await rm(s3.environment.HUGGINGFACE_HUB_CACHE!, { recursive: true });
      const second = await start('http://127.0.0.1:9');
      expect(second.stderr).toBe(`loading from the weights cache: ${cache}/milo/stories/main/${place}\n`);
      expect(JSON.parse(second.stdout).ids).toEqual(JSON.parse(first.stdout).ids);
      const { models } = await json('weights', 'list', cache);
      expect(models).toMatchObject([{ model: 'milo/stories', files: 5 }]);
    },
  );

  test('with --head-bits the packed weights keep the head of the checkpoint: the next start may choose other bits', async () => {
    const flags = ['--quantize', 'bitsandbytes-nf4', '--weights-cache', `${AT}/heads`];
    const first = await generate(F16, ...flags, '--head-bits', '4');
    expect(first.stderr).toMatch(/^the weights cache has it now/);
    const [four, sixteen] = [await generate(F16, ...flags, '--head-bits', '4'), await generate(F16, ...flags)];
    expect(JSON.parse(four.stdout).logprobs).toEqual(JSON.parse(first.stdout).logprobs);
    const plain = await generate(F16, '--quantize', 'bitsandbytes-nf4');
    expect(JSON.parse(sixteen.stdout).logprobs).toEqual(JSON.parse(plain.stdout).logprobs);
  });

  test('--no-weights-cache-fill leaves nothing', async () => {
    const { stderr } = await generate(
      F16,
      '--quantize',
      'bitsandbytes',
      '--weights-cache',
      `${AT}/untouched`,
      '--no-weights-cache-fill',
    );
    expect(stderr).toBe('');
    expect((await json('weights', 'list', `${AT}/untouched`)).models).toEqual([]);
  });

  test('a cache that cannot be read or written costs lines, not the start', async () => {
    s3.proxy.spoil({ kind: 'status', status: 403, code: 'AccessDenied' }, { method: 'PUT', path: /./, times: 1e9 });
    const readOnly = await generate(F16, '--quantize', 'bitsandbytes-nf4', '--weights-cache', `${AT}/denied`);
    expect(readOnly.code).toBe(0);
    expect(readOnly.stderr).toMatch(
      /^the weights cache was not filled: s3:\/\/nibble-weights\/denied\/.*: could not be written: access was denied \(403 AccessDenied\); check the credentials and what they may do; the model is loaded all the same\n$/,
    );
    const noServer = await nibble(
      [
        'generate',
        '--model-id',
        F16,
        '--prompt',
        'Once',
        '--max-new-tokens',
        '2',
        '--json',
        '--quantize',
        'bitsandbytes-nf4',
        '--weights-cache',
        `${AT}/denied`,
        '--no-weights-cache-fill',
      ],
      { ...s3.environment, AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' },
    );
    expect(noServer.code).toBe(0);
    expect(noServer.stderr).toMatch(
      /^the weights cache cannot be read: .*: could not be read: the connection failed \(ECONNREFUSED\), 6 times in a row; loading goes on without it\n$/,
    );
  });
});
