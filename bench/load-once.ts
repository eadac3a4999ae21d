/** LoadOnce: one start of `nibble generate`'s loader in a process of its own; prints its time and its memory's peak. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { parseOptions } from '../gpu-worker/command-line.ts';
import { generate } from '../gpu-worker/commands/generate.ts';
import { loadModel } from '../gpu-worker/loader.ts';

const options = parseOptions(generate, process.argv.slice(2), {});
const startMs = performance.now();
const model = await loadModel(options, 'optional');
const ms = performance.now() - startMs;
// VmHWM: the most that was ever resident, in kB; Linux only.
const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
console.log(JSON.stringify({ ms, peakBytes: Number(peak) * 1024, quantization: model.quantization }));
await model.backend.dispose();
