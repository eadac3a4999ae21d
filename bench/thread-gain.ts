/**
 * Thread gain: what two threads gain on this machine, beside what its two processors are worth at that moment: plain reading of what lies in the last cache
 * and of what does not. Virtual processors may share a core and a memory with others, and change by the second, so each round measures all of it.
 * node scripts/with-node.mjs bench/thread-gain.ts [seconds]
 */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { median } from '../gpu-worker/bench/rounds.ts';
import { ensureWasmBuilt } from '../scripts/build-wasm.ts';
import { RandomLlama } from '../test/wasm/random-llama.ts';
import { instantiateKernels } from '../wasm/kernels.ts';
import { KernelMemory } from '../wasm/memory.ts';
import { withMemory } from '../wasm/memory-import.ts';
import { loadWasmBackend } from '../wasm/node.ts';
import { SingleThread } from '../wasm/team.ts';
import { ThreadTeam } from '../wasm/threads.ts';

const SHAPES = {
  '110M': { hidden: 768, layers: 12, ffn: 2048, heads: 12, kvHeads: 12, vocab: 32000 },
  'in the last cache': { hidden: 384, layers: 6, ffn: 1024, heads: 6, kvHeads: 6, vocab: 32000 },
};
const DECODED = 24;
const PROMPT = 96;
const CACHED_BYTES = 4 * 2 ** 20;
const CACHED_READS = 60;
const MEMORY_BYTES = 256 * 2 ** 20;
/** A thread without work sleeps before the next one is measured. */
const PAUSE_MS = 6;
const WARM_UPS = 5;

const KERNELS = ensureWasmBuilt().relaxed;
const ids = Array.from({ length: 200 }, (_, i) => 300 + ((i * 7919) % 30000));

async function contender(threads: number) {
  const runs = await readers(threads);
  for (const [name, shape] of Object.entries(SHAPES)) {
    const backend = await loadWasmBackend({ threads, checkThreads: false });
    const model = await RandomLlama.load(backend, shape, ids.length, 'f16');
    const last = async (from: number, count: number) =>
      backend.top(model.enqueue(ids, from, count)!, 1, Float32Array.of(0));
    runs[`decode, ${name}`] = async () => {
      for (let i = 0; i < DECODED; i++) await last(i, 1);
    };
    runs[`prefill, ${name}`] = () => last(0, PROMPT);
  }
  return runs;
}

/** Every thread reads its pieces of bytes that were written to before. */
async function readers(threads: number): Promise<Record<string, () => Promise<unknown>>> {
  const module = new WebAssembly.Module(withMemory(threads > 1 ? 'shared' : 'unshared', readFileSync(KERNELS)));
  const memory = new KernelMemory(undefined, threads > 1);
  const team =
    threads > 1
      ? await ThreadTeam.start(module, memory, threads, null)
      : new SingleThread(instantiateKernels(module, memory.memory), memory.memory);
  const address = memory.permanent(MEMORY_BYTES, 'what is read');
  const sums = memory.permanent(threads * 4, 'sums');
  memory.u32(address, MEMORY_BYTES / 4).fill(1);
  const read = async (bytes: number, times: number) => {
    for (let i = 0; i < times; i++) team.run('read', address, bytes, sums);
    team.settle();
  };
  return {
    'reading from memory': () => read(MEMORY_BYTES, 1),
    'reading from the last cache': () => read(CACHED_BYTES, CACHED_READS),
  };
}

async function msOf(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

const [one, two] = [await contender(1), await contender(2)];
const names = Object.keys(one).sort();
const gains = new Map<string, number[]>(names.map((name) => [name, []]));
const end = performance.now() + Number(process.argv[2] ?? 120) * 1000;
for (let round = -WARM_UPS; round < 1 || performance.now() < end; round++)
  for (const name of names) {
    const before = await msOf(one[name]!);
    const together = await msOf(two[name]!);
    const gain = (before + (await msOf(one[name]!))) / 2 / together;
    if (round >= 0) gains.get(name)!.push(gain);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
for (const [name, values] of gains) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor(part * (sorted.length - 1))]!.toFixed(2);
  console.log(
    `${name}: ${median(values).toFixed(2)} (a tenth below ${at(0.1)}, a tenth above ${at(0.9)}; ${values.length} rounds)`,
  );
}
process.exit(0);
