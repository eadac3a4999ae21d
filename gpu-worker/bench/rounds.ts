/** Rounds: rivals measured in turn, so that what disturbs the machine disturbs all of them, and the median of each. */

export interface Contender {
  name: string;
  /** One measurement. */
  measure(): Promise<number>;
}

/** A contender whose measurement takes so long is measured so often at most: its rate hardly varies, and the others wait. */
const SLOW = [
  { ms: 30_000, samples: 1 },
  { ms: 5_000, samples: 3 },
];

/** Each contender once a round, after `warmUps` rounds that do not count. A contender that fails is left out from then on, and its reason kept. */
export async function runRounds(
  contenders: readonly Contender[],
  { rounds, warmUps }: { rounds: number; warmUps: number },
): Promise<Map<string, { samples: number[] } | { failure: string }>> {
  const results = new Map<string, { samples: number[] } | { failure: string }>();
  const most = new Map<string, number>();
  for (const { name } of contenders) results.set(name, { samples: [] });
  for (let round = -warmUps; round < rounds; round++)
    for (const { name, measure } of contenders) {
      const own = results.get(name)!;
      if ('failure' in own || own.samples.length >= (most.get(name) ?? rounds)) continue;
      try {
        const started = performance.now();
        const value = await measure();
        const elapsedMs = performance.now() - started;
        most.set(name, SLOW.find(({ ms }) => elapsedMs > ms)?.samples ?? rounds);
        if (round >= 0) own.samples.push(value);
      } catch (error) {
        results.set(name, { failure: error instanceof Error ? error.message : String(error) });
      }
    }
  return results;
}

/** The mean of the middle two where there is an even number. Throws on none. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('the median of no values');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
