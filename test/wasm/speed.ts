/** Speed: ms and GB/s of one token through a 2048 × 2048 linear of each format, best of many. Run with node; prints a table. */
import type { LinearWeight } from '../../core/model/backend.ts';
import { bnb4Of, denseOf, gaussians, gptqOf, int8Of, place, tokensBatch } from './inputs.ts';
import { backendOf, VARIANTS } from './kernel-set.ts';

const SIZE = 2048;
const RUNS = 2000;

const square = { outFeatures: SIZE, inFeatures: SIZE };
const values = gaussians(SIZE * SIZE, 1);
const halfBytes = new Uint8Array(new Uint16Array(SIZE * SIZE).fill(0x2345).buffer);
const formats: [string, LinearWeight][] = [
  ['dense f32', denseOf(values, SIZE)],
  ['dense f16', { ...denseOf(values, SIZE), dtype: 'f16', bytes: halfBytes }],
  ...([2, 3, 4, 8] as const).map((bits): [string, LinearWeight] => [
    `gptq ${bits} bits, group 128, sym`,
    gptqOf({ ...square, bits, groupSize: 128, sym: true }),
  ]),
  ['gptq 4 bits, group 32, asym', gptqOf({ ...square, groupSize: 32, sym: false })],
  ['gptq 4 bits, group 128, act-order', gptqOf({ ...square, groupSize: 128, sym: true, actOrder: true })],
  ['gptq 4 bits, group 100', gptqOf({ ...square, groupSize: 100, sym: true })],
  ['nf4, blocks of 64', bnb4Of(values, SIZE, { quantType: 'nf4', blockSize: 64 })],
  ['nf4, blocks that cross rows', bnb4Of(values.subarray(0, 2044 * SIZE), 2044, { quantType: 'nf4', blockSize: 64 })],
  ['int8, threshold 6', int8Of(values, SIZE, 6)],
];

const TOKENS = 64;
console.log(`| format | MB | ${VARIANTS.map((v) => `${v}: ms | GB/s | ${TOKENS} tokens: ms`).join(' | ')} |`);
for (const [name, weight] of formats) {
  const cells: string[] = [];
  let megabytes = 0;
  for (const variant of VARIANTS) {
    const backend = await backendOf(variant);
    const linear = await backend.loadLinear(weight, name);
    megabytes = linear.bytes / 1e6;
    const best = [];
    for (const tokens of [1, TOKENS]) {
      backend.begin(tokensBatch(tokens));
      const x = await place(backend, gaussians(tokens * weight.inFeatures, 2), weight.inFeatures);
      const used = [];
      const until = performance.now() + 1000;
      for (let run = 0; run < RUNS && performance.now() < until; run++) {
        const start = performance.now();
        backend.linear(x, linear);
        used.push(performance.now() - start);
      }
      best.push(Math.min(...used));
    }
    cells.push(best[0]!.toFixed(3), (linear.bytes / 1e6 / best[0]!).toFixed(1), best[1]!.toFixed(1));
    await backend.dispose();
  }
  console.log(`| ${name} | ${megabytes.toFixed(2)} | ${cells.join(' | ')} |`);
}
