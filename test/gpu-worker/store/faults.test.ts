/** What happens between S3 and the loader when something goes wrong. The server is miniflare's S3; the faults are a proxy's. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeRandomModel } from '../../../bench/random-model.ts';
import { openCheckpoint } from '../../../core/formats/checkpoint-index.ts';
import { openLocalModel } from '../../../gpu-worker/store/local.ts';
import { CHUNK_BYTES } from '../../../gpu-worker/store/manifest.ts';
import { S3Bucket } from '../../../gpu-worker/store/s3-bucket.ts';
import { openS3Model } from '../../../gpu-worker/store/s3-model.ts';
import { BUCKET, LocalS3 } from './local-s3.ts';

const CLI = join(import.meta.dirname, '../../../gpu-worker/cli.ts');
const ADDRESS = `s3://${BUCKET}/random`;
/** 37 MB: ten chunks and a little config. */
const SHAPE = { hidden: 256, layers: 4, intermediate: 688, heads: 4, kvHeads: 4, vocab: 60_000 };

let s3: LocalS3;
let weightBytes: number;
let chunks: number;
let model: string;
beforeAll(async () => {
  s3 = await LocalS3.start();
  model = join(s3.directory, 'model');
  weightBytes = await writeRandomModel(model, SHAPE);
  chunks = Math.ceil(weightBytes / CHUNK_BYTES);
  await s3.push(model, 'random');
});
afterAll(() => s3?.stop());
beforeEach(() => {
  s3.proxy.reset();
});

/** Every tensor as it comes through the proxy is that of the file that was pushed. */
async function expectRightWeights(): Promise<void> {
  const remote = await openS3Model(ADDRESS, { s3: s3.proxy.connection, disk: null, log: () => {} });
  const local = await openLocalModel(model);
  try {
    const [there, here] = [await openCheckpoint(remote), await openCheckpoint(local)];
    there.expect?.([...there.tensors.keys()]);
    expect([...there.tensors.keys()]).toEqual([...here.tensors.keys()]);
    for (const name of here.tensors.keys())
      expect(Buffer.compare(await there.read(name), await here.read(name)), name).toBe(0);
  } finally {
    await remote.close();
    await local.close();
  }
}

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A worker's start, as a program. */
function load(args: readonly string[] = [], environment: Record<string, string> = {}): Promise<Ended> {
  const start = ['generate', '--model-id', ADDRESS, '--ids', '1,2', '--max-new-tokens', '1', '--json'];
  return run([...start, ...args], environment);
}

function run(args: readonly string[], environment: Record<string, string> = {}): Promise<Ended> {
  const env = { ...process.env, NODE_NO_WARNINGS: '1', ...s3.environment, ...environment };
  return new Promise((resolve) => {
    execFile(process.execPath, [CLI, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : (error.code as number), stdout, stderr }),
    );
  });
}

const emptyDisk = () => rm(s3.environment.HUGGINGFACE_HUB_CACHE!, { recursive: true, force: true });

describe('a fault that passes costs a retry, not the load', () => {
  test('a connection cut in the middle of a range goes on where it broke', async () => {
    s3.proxy.spoil({ kind: 'cut', afterBytes: 1_000_000 }, { times: 2 });
    await expectRightWeights();
    expect(s3.proxy.blobReads).toBe(chunks + 2);
    // What had arrived before the cut is not asked for again.
    expect(s3.proxy.blobBytes).toBeLessThan(weightBytes + 1_000_000);
  });

  test('503 SlowDown on three requests', async () => {
    s3.proxy.spoil({ kind: 'status', status: 503, code: 'SlowDown' }, { times: 3 });
    await expectRightWeights();
    expect(s3.proxy.blobReads).toBe(chunks + 3);
  });

  test('one wrong bit is seen by its checksum and the chunk fetched again', async () => {
    s3.proxy.spoil({ kind: 'flip' });
    await expectRightWeights();
    expect(s3.proxy.blobReads).toBe(chunks + 1);
  });
});

describe('a fault that stays is one sentence and exit code 1', () => {
  const noDisk = ['--disk-cache-gb', '0'];

  test('503 for ever', async () => {
    s3.proxy.spoil({ kind: 'status', status: 503, code: 'SlowDown' }, { times: 1e9 });
    const { code, stdout, stderr } = await load(noDisk);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(
      /^nibble generate: s3:\/\/nibble-weights\/random\/blobs\/[0-9a-f]{64}: could not be read: the store answered 503 SlowDown, 6 times in a row\n$/,
    );
  });

  test('a bucket of another region, which the store names', async () => {
    s3.proxy.spoil(
      { kind: 'status', status: 301, code: 'PermanentRedirect' },
      { method: 'HEAD', path: /./, times: 1e9 },
    );
    const { code, stderr } = await load(noDisk);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /: could not be read: the bucket lies in another region than auto; set AWS_REGION to its own\n$/,
      ),
    ]);
  });

  test('every connection cut at once', async () => {
    s3.proxy.spoil({ kind: 'cut', afterBytes: 0 }, { times: 1e9 });
    const { code, stderr } = await load(noDisk);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^nibble generate: s3:\/\/nibble-weights\/random\/blobs\/[0-9a-f]{64}: could not be read: the connection failed \(.+\), 6 times in a row\n$/,
    );
  });

  test('a wrong checksum in the store itself', async () => {
    await s3.push(model, 'damaged');
    const bucket = new S3Bucket(BUCKET, s3.direct);
    const [blob] = (await bucket.list('damaged/blobs/')).sort((a, b) => b.bytes - a.bytes);
    const bytes = new Uint8Array(blob!.bytes);
    await bucket.readRange(blob!.key, null, 0, bytes);
    bytes[CHUNK_BYTES + 5]! ^= 1;
    await bucket.writeLarge(
      blob!.key,
      bytes.length,
      async (at, length) => bytes.slice(at, at + length),
      () => {},
    );
    bucket.close();
    const { code, stderr } = await load(['--model-id', `s3://${BUCKET}/damaged`]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^nibble generate: s3:\/\/nibble-weights\/damaged\/model.safetensors: bytes \[4194304, 8388608\) have the checksum [0-9a-f]{8}, the manifest says [0-9a-f]{8}; nibble weights push --force sends it again\n$/,
    );
  });

  test.for([
    [
      'a wrong key',
      { AWS_SECRET_ACCESS_KEY: 'wrong' },
      ADDRESS,
      /could not be read: access was denied \(403 .*\); check the credentials and what they may do\n$/,
    ],
    [
      'no such bucket',
      {},
      's3://nobody-made-it/model',
      /there is no such bucket at this endpoint \(see AWS_ENDPOINT_URL_S3\)\n$/,
    ],
    [
      'no such model',
      {},
      `s3://${BUCKET}/nothing`,
      /s3:\/\/nibble-weights\/nothing: there is no model: no object lies there \(nibble weights push publishes one\)\n$/,
    ],
    [
      'no server',
      { AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' },
      ADDRESS,
      /could not be read: the connection failed \(ECONNREFUSED\), 6 times in a row\n$/,
    ],
    [
      'no URL',
      { AWS_ENDPOINT_URL_S3: 'minio:9000' },
      ADDRESS,
      /the endpoint "minio:9000" is no http\(s\) URL \(see AWS_ENDPOINT_URL_S3\)\n$/,
    ],
    [
      'no credentials',
      { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_EC2_METADATA_DISABLED: 'true' },
      ADDRESS,
      /there are no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the AWS SDK a profile or a role\n$/,
    ],
    [
      'no address',
      {},
      's3://Not_A_Bucket/x',
      /"s3:\/\/Not_A_Bucket\/x" names the bucket "Not_A_Bucket"; bucket names are 3 to 63 of a-z, 0-9, dots and dashes\n$/,
    ],
  ] as const)('%s', async ([_, environment, address, sentence]) => {
    const { code, stdout, stderr } = await load(['--model-id', address, ...noDisk], environment);
    expect(stdout).toBe('');
    expect(stderr).toMatch(sentence);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(code).toBe(address.includes('Not_A') ? 2 : 1);
  });

  test('a file without a manifest that is replaced while it is read', async () => {
    const bucket = new S3Bucket(BUCKET, s3.direct);
    const bytes = new Uint8Array(2 * CHUNK_BYTES);
    await bucket.writeSmall('plain/model.safetensors', bytes, 'application/octet-stream');
    const remote = await openS3Model(`s3://${BUCKET}/plain`, { s3: s3.direct, disk: null, log: () => {} });
    const source = (await remote.open('model.safetensors'))!;
    await source.read(0, 10);
    await bucket.writeSmall('plain/model.safetensors', bytes.fill(1), 'application/octet-stream');
    await expect(source.read(CHUNK_BYTES, 10)).rejects.toThrow(
      's3://nibble-weights/plain/model.safetensors: was replaced while it was read; start again',
    );
    bucket.close();
    await remote.close();
  });
});

describe('the disk cache', () => {
  test('a second start reads no weights from S3', async () => {
    await emptyDisk();
    const first = await load();
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(s3.proxy.blobReads).toBe(chunks + 1);
    s3.proxy.reset();
    const second = await load();
    expect(s3.proxy.blobReads).toBe(0);
    expect(JSON.parse(second.stdout).ids).toEqual(JSON.parse(first.stdout).ids);
  });

  test('two loaders at once fetch each chunk once, and both end well', async () => {
    await emptyDisk();
    const both = await Promise.all([load(), load()]);
    for (const { code, stderr } of both) expect([code, stderr]).toEqual([0, '']);
    expect(both[0].stdout).not.toBe('');
    expect(JSON.parse(both[0].stdout).ids).toEqual(JSON.parse(both[1].stdout).ids);
    expect(s3.proxy.blobReads).toBe(chunks + 1);
  });

  test('a loader that is killed in mid-download leaves nothing wrong; the next one goes on', async () => {
    await emptyDisk();
    s3.proxy.spoil({ kind: 'delay', ms: 600 }, { times: 1e9 });
    const args = [CLI, 'generate', '--model-id', ADDRESS, '--ids', '1,2', '--max-new-tokens', '1'];
    const killed = spawn(process.execPath, args, { env: { ...process.env, ...s3.environment }, stdio: 'ignore' });
    const ended = new Promise((resolve) => killed.once('exit', resolve));
    const kept = async () => (await names()).filter((name) => /[0-9a-f]{64}$/.test(name)).length;
    const names = () => readdir(s3.environment.HUGGINGFACE_HUB_CACHE!, { recursive: true }).catch(() => []);
    while ((await kept()) < 3) await setTimeout(5);
    killed.kill('SIGKILL');
    await ended;
    const before = await kept();
    expect(before).toBeLessThan(chunks + 1);
    s3.proxy.reset();
    const next = await load();
    expect([next.code, next.stderr]).toEqual([0, '']);
    expect(s3.proxy.blobReads).toBe(chunks + 1 - before);
    expect(await kept()).toBe(chunks + 1);
  });

  test.skipIf(!canMount())('a disk that is full: the model loads, and one line says why nothing is kept', async () => {
    const small = join(s3.directory, 'small-disk');
    await mkdir(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=10m', 'nibble-test', small]);
    try {
      const environment = { HUGGINGFACE_HUB_CACHE: small };
      const full = await load([], environment);
      expect(full.code).toBe(0);
      expect(full.stderr).toBe(
        `the disk cache in ${small}/nibble-chunks cannot be written: the disk is full (ENOSPC); loading goes on without keeping more\n`,
      );
      expect((await readdir(small, { recursive: true })).filter((name) => name.endsWith('.tmp'))).toEqual([]);
      // What fitted is whole: the next start takes it and reads the rest.
      s3.proxy.reset();
      const again = await load([], environment);
      expect(JSON.parse(again.stdout).ids).toEqual(JSON.parse(full.stdout).ids);
      expect(s3.proxy.blobReads).toBeLessThan(chunks + 1);
    } finally {
      execFileSync('umount', [small]);
    }
  });

  test.skipIf(!canMount())('pulling to a full disk leaves nothing and says so', async () => {
    const small = join(s3.directory, 'small-target');
    await mkdir(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=10m', 'nibble-test', small]);
    try {
      const out = join(small, 'model');
      expect(await run(['weights', 'pull', ADDRESS, out])).toEqual({
        code: 1,
        stdout: '',
        stderr: `nibble weights: ${out}: cannot be written: ENOSPC\n`,
      });
      expect(await readdir(small)).toEqual([]);
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

/** Needs root and a kernel that lets a container mount. */
function canMount(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'nibble-probe', '/mnt'], { stdio: 'ignore' });
    execFileSync('umount', ['/mnt'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
