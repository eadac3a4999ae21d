/** Limits: what this machine does at best in WebAssembly, measured with the kernel set's own two loops. Medians, as kernels' times are. */
import type { MeasuredRate } from '../core/model/backend.ts';
import type { Kernels, KernelVariant } from './kernels.ts';
import { median } from './median.ts';
import type { KernelMemory } from './memory.ts';
import type { Team } from './team.ts';

/** Eight times the largest last cache of common servers' share (32 MiB). */
const READ_BYTES = 256 * 2 ** 20;
const READ_PASSES = 5;
/** Written to, so that it is memory of its own: what never was is one page of zeros, which stays in the cache. */
const PAGE_WORDS = 1024;
/** About 20 ms each. */
const DOT_ROUNDS = 2_000_000;
const DOT_PASSES = 5;
/** dot_limit's, a multiply and an add each: 12 products of 16 pairs, or 8 of 8. */
const OPERATIONS_PER_ROUND = { relaxed: 12 * 16 * 2, plain: 8 * 8 * 2 };

/** Read bandwidth of all threads together. Takes READ_BYTES of the step's memory and gives them back; no kernel may be at work. */
export function readLimit(team: Team, memory: KernelMemory): MeasuredRate {
  team.begin(0);
  const mark = memory.mark;
  const address = memory.scratch(READ_BYTES);
  const sums = memory.scratch(team.threads * 4);
  const words = memory.u32(address, READ_BYTES / 4);
  for (let page = 0; page < words.length; page += PAGE_WORDS) words[page] = page;
  const seconds = medianSeconds(READ_PASSES, () => {
    team.run('read', address, READ_BYTES, sums);
    team.settle();
  });
  memory.release(mark);
  return { what: `read, 16-byte loads on ${threadsText(team)}`, perSecond: READ_BYTES / seconds };
}

/** Integer products: one thread's, as many times as there are threads. */
export function dotLimit(kernels: Kernels, team: Team, variant: KernelVariant): MeasuredRate {
  const seconds = medianSeconds(DOT_PASSES, (pass) => {
    kernels.dot_limit(0x3c2b1a59 + pass, DOT_ROUNDS);
  });
  const operands = variant === 'relaxed' ? '8-bit' : '16-bit';
  return {
    what: `${operands} integer dot products on ${threadsText(team)}`,
    perSecond: (team.threads * DOT_ROUNDS * OPERATIONS_PER_ROUND[variant]) / seconds,
  };
}

function threadsText({ threads }: Team): string {
  return threads === 1 ? 'one thread' : `${threads} threads`;
}

function medianSeconds(passes: number, run: (pass: number) => void): number {
  const seconds: number[] = [];
  for (let pass = 0; pass < passes; pass++) {
    const started = performance.now();
    run(pass);
    seconds.push((performance.now() - started) / 1000);
  }
  return median(seconds);
}
