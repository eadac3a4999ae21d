/** ReadOnce: every tensor that a model needs, read from S3 in the loader's order and dropped; prints its time and its memory's peak. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { openCheckpoint } from '../core/formats/checkpoint-index.ts';
import { readJson } from '../core/formats/file-set.ts';
import { MAX_CONFIG_BYTES } from '../core/formats/quantization-config.ts';
import { parseModelConfig } from '../core/model/config.ts';
import { loadOrder } from '../core/model/load-order.ts';
import { openS3Model } from '../gpu-worker/store/s3-model.ts';

const startMs = performance.now();
const files = await openS3Model(process.argv[2]!, { s3: null, disk: null, log: console.error });
const checkpoint = await openCheckpoint(files);
const config = parseModelConfig(await readJson(files, 'config.json', MAX_CONFIG_BYTES, 'required'), null, files.name);
const order = loadOrder(checkpoint.tensors.keys(), config);
checkpoint.expect?.(order);
for (const name of order) await checkpoint.read(name);
const ms = performance.now() - startMs;
await files.close();
const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
console.log(JSON.stringify({ ms, peakBytes: Number(peak) * 1024 }));
