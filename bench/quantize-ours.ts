/** QuantizeOurs: one run of `nibble quantize`'s layers on given ids, in a process of its own, as its rival scripts/peers/gptq_torch.py prints one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { Journal } from '../gpu-worker/quantize/journal.ts';
import { openMachine } from '../gpu-worker/quantize/machine.ts';
import { quantizeModel } from '../gpu-worker/quantize/quantize-model.ts';

// quantize-ours.ts MODEL IDS.json THREADS
const [model, ids, threads] = process.argv.slice(2) as [string, string, string];
const sequences = JSON.parse(readFileSync(ids, 'utf8')) as number[][];
const startMs = performance.now();
const before = process.cpuUsage();
const machine = await openMachine('wasm', Number(threads));
const journal = await Journal.open(join(model, 'out'), { at: startMs });
const reports = await quantizeModel({
  model,
  options: {
    bits: 4,
    groupSize: 128,
    columnOrder: 'natural',
    groups: 'running',
    zeros: 'symmetric',
    clipping: 'none',
    damping: 0.01,
  },
  sequence: 'whole-layer',
  sequences,
  journal,
  ...machine,
  onProgress: () => {},
});
await machine.close();
await journal.remove();
const { user, system } = process.cpuUsage(before);
const loss = reports.reduce((sum, linear) => sum + (linear.kind === 'quantized' ? linear.squaredError : 0), 0);
console.log(
  JSON.stringify({
    seconds: (performance.now() - startMs) / 1000,
    cpu_seconds: (user + system) / 1e6,
    max_rss_mb: Math.round(process.resourceUsage().maxRSS / 1024),
    loss,
  }),
);
