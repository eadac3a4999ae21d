/**
 * Speed of whole models: tokens per second of the calling thread's processor time, decode and prefill, random 4-bit weights. Run with node; prints one JSON line a shape.
 * node test/wasm/speed-llama.ts [hidden,layers,ffn,heads,kvHeads,vocab …] [variant=relaxed] [runs=5] [long=1024] [kv=f32]
 */
import process from 'node:process';
import type { KvDtype } from '../../core/model/backend.ts';
import type { KernelVariant } from '../../wasm/kernels.ts';
import { backendOf } from './kernel-set.ts';
import { type LlamaShape, RandomLlama } from './random-llama.ts';

const named = new Map(
  process.argv.slice(2).flatMap((arg) => (arg.includes('=') ? [arg.split('=') as [string, string]] : [])),
);
const listed = process.argv.slice(2).filter((arg) => !arg.includes('='));
const shapes = listed.length > 0 ? listed : ['768,12,2048,12,12,32000', '1280,24,3456,20,20,32000'];
const runs = Number(named.get('runs') ?? 5);
const long = Number(named.get('long') ?? 1024);
const kv = (named.get('kv') ?? 'f32') as KvDtype;
const PREFILL = 512;
const DECODE = 64;

/** This thread's time on a processor: what other processes take does not count. */
const cpuMs = () => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1e3;
};
const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;
const ids = Array.from({ length: 4096 }, (_, i) => 300 + ((i * 7919) % 30000));

for (const text of shapes) {
  const [hidden, layers, ffn, heads, kvHeads, vocab] = text.split(',').map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const shape: LlamaShape = { hidden, layers, ffn, heads, kvHeads, vocab };
  const backend = await backendOf((named.get('variant') ?? 'relaxed') as KernelVariant);
  const model = await RandomLlama.load(backend, shape, long + DECODE + 16, kv);
  const decode = async (from: number, count: number) => {
    const start = cpuMs();
    for (let i = 0; i < count; i++) await backend.top(model.enqueue(ids, from + i, 1)!, 1, Float32Array.of(0));
    return (count / (cpuMs() - start)) * 1e3;
  };
  const prefill = async (from: number, count: number) => {
    const start = cpuMs();
    await backend.top(model.enqueue(ids, from, count)!, 1, Float32Array.of(0));
    return (count / (cpuMs() - start)) * 1e3;
  };
  await prefill(0, PREFILL);
  for (let at = PREFILL; at < long; at += PREFILL) await prefill(at, Math.min(PREFILL, long - at));
  await decode(0, 16);
  const speeds = { prefill: [] as number[], decode: [] as number[], decodeLong: [] as number[] };
  for (let run = 0; run < runs; run++) {
    speeds.decode.push(await decode(0, 128));
    speeds.decodeLong.push(await decode(long, DECODE / 2));
    speeds.prefill.push(await prefill(0, PREFILL));
  }
  console.log(
    JSON.stringify({
      shape: text,
      variant: backend.variant,
      weightMb: model.weightBytes / 1e6,
      usedMb: Math.round(backend.usedBytes / 1e6),
      ...Object.fromEntries(Object.entries(speeds).map(([name, values]) => [name, Number(median(values).toFixed(1))])),
    }),
  );
  await backend.dispose();
}
