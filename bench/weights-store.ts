/**
 * WeightsStore: how fast and in how much memory a model loads from S3 (the local edge's), against a plain loop of ranged GetObject
 * requests; from the disk cache; and packed from --weights-cache against quantizing on load. Needs Linux and 4 GB of disk in $TMPDIR.
 * node scripts/with-node.mjs bench/weights-store.ts [--runs 3] [--task load|packed]
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs, promisify } from 'node:util';
import { startLocalEdge } from '../gpu-worker/local-edge.ts';
import { openLocalModel } from '../gpu-worker/store/local.ts';
import { publish } from '../gpu-worker/store/publish.ts';
import { S3Bucket } from '../gpu-worker/store/s3-bucket.ts';
import { readManifest } from '../gpu-worker/store/s3-files.ts';
import { ensureWasmBuilt } from '../scripts/build-wasm.ts';
import { writeRandomModel } from './random-model.ts';

/** 501 million parameters: 1.002 GB in f16. */
const SHAPE = { hidden: 2048, layers: 9, intermediate: 5632, heads: 16, kvHeads: 16, vocab: 20000 };
const MIB = 1 << 20;
const NF4 = ['--quantize', 'bitsandbytes-nf4'];
const { runs: runsText, task } = parseArgs({
  options: { runs: { type: 'string', default: '3' }, task: { type: 'string', default: 'all' } },
}).values;
const runs = Number(runsText);

interface Start {
  ms: number;
  peakBytes: number;
}

ensureWasmBuilt();
const directory = await mkdtemp(join(tmpdir(), 'nibble-bench-'));
const edge = await startLocalEdge({ port: 0, state: join(directory, 'state'), store: 's3' });
const s3 = edge.s3!;
const env = {
  ...process.env,
  AWS_ENDPOINT_URL_S3: s3.endpoint,
  AWS_REGION: 'auto',
  AWS_ACCESS_KEY_ID: s3.accessKeyId,
  AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
};
try {
  const weightBytes = await writeRandomModel(join(directory, 'plain'), SHAPE);
  const address = { bucket: 'nibble-weights', prefix: 'random' };
  const files = await openLocalModel(join(directory, 'plain'));
  await publish(files, address, { s3, model: 'random', quantization: null, onProgress: () => {} });
  await files.close();
  const bucket = new S3Bucket(address.bucket, s3);
  const { manifest } = (await readManifest(bucket, address))!;
  bucket.close();
  const blob = `random/blobs/${manifest.files.find(({ name }) => name === 'model.safetensors')!.sha256}`;

  const loop = (rangeBytes: number, atOnce: number) =>
    child<Start>('get-loop.ts', [address.bucket, blob, String(rangeBytes), String(atOnce)]);
  const load = (...args: string[]) =>
    child<Start>('load-once.ts', ['--model-id', 's3://nibble-weights/random', ...args]);
  const noDisk = ['--disk-cache-gb', '0'];
  const disk = ['--huggingface-hub-cache', join(directory, 'disk')];
  const cache = ['--weights-cache', 's3://nibble-weights/cache'];

  const loads = {
    'GetObject loop, 4 MiB, 1 at a time': () => loop(4 * MIB, 1),
    'GetObject loop, 4 MiB, 8 at a time': () => loop(4 * MIB, 8),
    'read every tensor from S3, not loaded': () => child<Start>('read-once.ts', ['s3://nibble-weights/random']),
    'load f16 from S3, no disk cache': () => load(...noDisk),
    'load f16 from the disk cache': () => load(...disk),
  };
  const packs = {
    'quantize to NF4 on load, from S3': () => load(...NF4, ...noDisk),
    'load packed NF4 from S3': () => load(...NF4, ...noDisk, ...cache),
    'quantize to NF4 on load, from the disk cache': () => load(...NF4, ...disk),
    'load packed NF4 from the disk cache': () => load(...NF4, ...disk, ...cache),
  };
  // Fills the weights cache once; what is timed afterwards never fills.
  if (task !== 'load') {
    await load(...NF4, ...noDisk, ...cache);
    await load(...NF4, ...disk, ...cache);
  }
  await load(...disk);
  const measured = await interleaved({
    ...(task === 'packed' ? {} : loads),
    ...(task === 'load' ? {} : packs),
  });
  const seconds = (name: string) => median(measured[name]!.map(({ ms }) => ms)) / 1000;
  const peak = (name: string) => Math.max(...measured[name]!.map(({ peakBytes }) => peakBytes));
  const results = [
    { name: 'weights', value: weightBytes / 1e6, unit: 'MB' },
    ...Object.keys(measured).map((name) => ({ name, value: round(seconds(name)), unit: 's' })),
  ];
  const ratios: Record<string, number> = {};
  if (task !== 'packed') {
    for (const name of ['load f16 from S3, no disk cache', 'load f16 from the disk cache'])
      results.push({
        name: `${name}: peak memory above the weights`,
        value: round((peak(name) - weightBytes) / 1e6),
        unit: 'MB',
      });
    for (const rival of Object.keys(loads).filter((name) => name.startsWith('GetObject')))
      for (const name of ['read every tensor from S3, not loaded', 'load f16 from S3, no disk cache'])
        ratios[`${name}, against ${rival}`] = round(seconds(rival) / seconds(name));
  }
  if (task !== 'load')
    for (const place of ['S3', 'the disk cache'])
      ratios[`quantizing on load, from ${place}`] = round(
        seconds(`quantize to NF4 on load, from ${place}`) / seconds(`load packed NF4 from ${place}`),
      );
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const device = `${cpus()[0]!.model}, ${cpus().length} threads`;
  console.log(JSON.stringify({ device, commit, runs, results, ratios }, null, 2));
} finally {
  await edge.stop();
  await rm(directory, { recursive: true, force: true });
}
process.exit(0);

async function interleaved(tasks: Record<string, () => Promise<Start>>): Promise<Record<string, Start[]>> {
  const measured: Record<string, Start[]> = {};
  for (let run = 0; run < runs; run++)
    for (const [name, task] of Object.entries(tasks)) {
      const start = await task();
      measured[name] = [...(measured[name] ?? []), start];
      process.stderr.write(`${name}: ${Math.round(start.ms)} ms\n`);
    }
  return measured;
}

async function child<Result>(program: string, args: readonly string[]): Promise<Result> {
  const path = join(import.meta.dirname, program);
  const { stdout } = await promisify(execFile)(process.execPath, [path, ...args], { env });
  return JSON.parse(stdout) as Result;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
