/** Limits: what this machine does at best in WebAssembly, measured with the kernel set's own two loops. */
import type { MeasuredRate } from '../core/model/backend.ts';
import type { Kernels, KernelVariant } from './kernels.ts';
import type { KernelMemory } from './memory.ts';

/** Four times the largest last cache of common servers' share (32 MiB). */
const READ_BYTES = 128 * 2 ** 20;
const READ_PASSES = 8;
/** About 20 ms each. */
const DOT_ROUNDS = 2_000_000;
const DOT_PASSES = 8;
/** dot_limit's, a multiply and an add each: 12 products of 16 pairs, or 8 of 8. */
const OPERATIONS_PER_ROUND = { relaxed: 12 * 16 * 2, plain: 8 * 8 * 2 };

/** One thread's read bandwidth. Takes READ_BYTES of the step's memory and gives them back. */
export function readLimit(kernels: Kernels, memory: KernelMemory): MeasuredRate {
  const mark = memory.mark;
  const address = memory.scratch(READ_BYTES);
  // Pages never written to are all the one page of zeros, which stays in the cache.
  memory.u32(address, READ_BYTES / 4).fill(0x5bd1e995);
  const seconds = bestOf(READ_PASSES, () => kernels.read_limit(address, READ_BYTES));
  memory.release(mark);
  return { what: 'read, 16-byte loads on one thread', perSecond: READ_BYTES / seconds };
}

/** One thread's integer products. */
export function dotLimit(kernels: Kernels, variant: KernelVariant): MeasuredRate {
  const seconds = bestOf(DOT_PASSES, (pass) => kernels.dot_limit(0x3c2b1a59 + pass, DOT_ROUNDS));
  const operands = variant === 'relaxed' ? '8-bit' : '16-bit';
  return {
    what: `${operands} integer dot products on one thread`,
    perSecond: (DOT_ROUNDS * OPERATIONS_PER_ROUND[variant]) / seconds,
  };
}

function bestOf(passes: number, run: (pass: number) => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < passes; pass++) {
    const started = performance.now();
    run(pass);
    best = Math.min(best, (performance.now() - started) / 1000);
  }
  return best;
}
