/** Self-check: whether a team's other threads have processors of their own, by reading zeros with it and without. */
import type { KernelMemory } from './memory.ts';
import type { Team } from './team.ts';

/**
 * About a millisecond: long beside what handing a task over costs, as a prompt's products are. Never written to, all of it is one page of
 * zeros in each core's nearest cache, so that it is processors that are measured and not the memory that they share.
 */
const BYTES = 96 << 20;
/** For the readers' words and alignment. */
const ROOM_BYTES = 4096;
const TASKS = 4;
const ROUNDS = 7;
/** Before them: until then the engine may still run its first, slow code, and the threads are being started. */
const WARM_UPS = 4;
/** What a team must gain for each thread beyond the first. Two threads on one core, or on a busy machine, gain nothing. */
const LEAST_GAIN = 0.3;

/** Takes some 50 milliseconds. `now` in milliseconds. */
export function pays(alone: Team, team: Team, memory: KernelMemory, now: () => number): boolean {
  const mark = memory.mark;
  // A memory that is capped below it has room for less, in whole lines of the kernel.
  const bytes = Math.min(BYTES, Math.floor((memory.freeBytes - ROOM_BYTES) / 128) * 128);
  if (bytes <= 0) return false;
  const x = memory.scratch(bytes);
  const sums = memory.scratch(team.threads * 4);
  const timeOf = (readers: Team) => {
    const start = now();
    // One after another, as a step's are: a thread is woken for the first alone.
    for (let task = 0; task < TASKS; task++) readers.run('read', x, bytes, sums);
    readers.settle();
    return now() - start;
  };
  const [single, together]: [number[], number[]] = [[], []];
  for (let round = -WARM_UPS; round < ROUNDS; round++) {
    const [one, all] = [timeOf(alone), timeOf(team)];
    if (round < 0) continue;
    single.push(one);
    together.push(all);
  }
  memory.release(mark);
  const gain = median(single) / median(together);
  return gain >= 1 + LEAST_GAIN * (team.threads - 1);
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
