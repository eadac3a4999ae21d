/** Rounds: rivals measured in turn, so that what disturbs the machine disturbs all of them, and the median of each. */

export interface Contender {
  name: string;
  /** One measurement. */
  measure(): Promise<number>;
}

/** Each contender once a round, after `warmUps` rounds that do not count. A contender that fails is left out from then on, and its reason kept. */
export async function runRounds(
  contenders: readonly Contender[],
  { rounds, warmUps }: { rounds: number; warmUps: number },
): Promise<Map<string, { samples: number[] } | { failure: string }>> {
  const results = new Map<string, { samples: number[] } | { failure: string }>();
  for (const { name } of contenders) results.set(name, { samples: [] });
  for (let round = -warmUps; round < rounds; round++)
    for (const { name, measure } of contenders) {
      const own = results.get(name)!;
      if ('failure' in own) continue;
      try {
        const value = await measure();
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
