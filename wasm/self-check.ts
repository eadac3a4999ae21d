/** Self-check: whether a team's other threads pay, by reading memory with it and without. */
import type { KernelMemory } from './memory.ts';
import type { Team } from './team.ts';

/** More than a core's own caches hold, little enough to take a fraction of a millisecond. */
const BYTES = 4 << 20;
const ROUNDS = 12;
/** What a team must gain for each thread beyond the first. Two threads on one core, or on a busy machine, gain nothing. */
const LEAST_GAIN = 0.3;

/** Takes some milliseconds. `now` in milliseconds. */
export function pays(alone: Team, team: Team, memory: KernelMemory, now: () => number): boolean {
  const mark = memory.mark;
  const x = memory.scratch(BYTES);
  const sums = memory.scratch(team.threads * 4);
  const timeOf = (readers: Team) => {
    const start = now();
    readers.run('read', x, BYTES, sums);
    readers.settle();
    return now() - start;
  };
  const [single, together]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    single.push(timeOf(alone));
    together.push(timeOf(team));
  }
  memory.release(mark);
  const gain = median(single) / median(together);
  return gain >= 1 + LEAST_GAIN * (team.threads - 1);
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
