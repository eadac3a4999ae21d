/** SolverShare: what a Hessian's factor costs on one thread beside the Hessian itself, in CPU time; printed for docs/quantization.md. */
import process from 'node:process';
import { openWasmKernels } from '../gpu-worker/quantize/wasm-kernels.ts';

const TOKENS = 2048;
const kernels = await openWasmKernels(1);
const cpuSeconds = async <Result>(work: () => Promise<Result>): Promise<{ result: Result; seconds: number }> => {
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
};

console.log('| channels | Hessian of 2048 tokens, CPU s | factor, CPU s | factor in tokens of the Hessian |');
console.log('| --- | --- | --- | --- |');
// The first warms the compiler up.
for (const columns of [512, 1024, 2048]) {
  const x = Float32Array.from({ length: TOKENS * columns }, (_, i) => ((i * 2654435761) % 1000) / 1000 - 0.5);
  const sum = kernels.hessian(columns);
  const added = await cpuSeconds(() => sum.add(x));
  const hessian = await sum.finish(1);
  const { result: factor, seconds } = await cpuSeconds(() => kernels.factor(hessian, columns, 100));
  if (factor === null) throw new Error(`${columns} channels: no factor`);
  kernels.release(factor);
  const tokens = (TOKENS * seconds) / added.seconds;
  console.log(`| ${columns} | ${added.seconds.toFixed(2)} | ${seconds.toFixed(2)} | ${tokens.toFixed(0)} |`);
}
await kernels.close();
