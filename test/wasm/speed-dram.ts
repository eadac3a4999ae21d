/** Speed from memory: one token through eight 4096 × 4096 matrices in turn, more than the caches hold, and the plain read limit in the same run. Run with node. */
import { gaussians, gptqOf, place, tokensBatch } from './inputs.ts';
import { backendOf } from './kernel-set.ts';

const SIZE = 4096;
const MATRICES = 8;
const ROUNDS = 15;

const backend = await backendOf('relaxed');
const weight = gptqOf({ outFeatures: SIZE, inFeatures: SIZE, groupSize: 32, sym: true });
const linears = [];
for (let i = 0; i < MATRICES; i++) linears.push(await backend.loadLinear(weight, 'weight'));
const bytes = linears.reduce((sum, linear) => sum + linear.bytes, 0);
const x = gaussians(SIZE, 1);
const gemv: number[] = [];
const read: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  backend.begin(tokensBatch(1));
  const placed = await place(backend, x, SIZE);
  const start = performance.now();
  for (const linear of linears) backend.free(backend.linear(placed, linear));
  gemv.push(bytes / (performance.now() - start) / 1e6);
  read.push((await backend.measureBandwidth()).perSecond / 1e9);
}
await backend.dispose();

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;
const best = (values: number[]) => Math.max(...values);
console.log(
  JSON.stringify({
    gemvGbPerS: { median: Number(median(gemv).toFixed(1)), best: Number(best(gemv).toFixed(1)) },
    readGbPerS: { median: Number(median(read).toFixed(1)), best: Number(best(read).toFixed(1)) },
    ofLimit: {
      median: Number((median(gemv) / median(read)).toFixed(2)),
      best: Number((best(gemv) / best(read)).toFixed(2)),
    },
  }),
);
