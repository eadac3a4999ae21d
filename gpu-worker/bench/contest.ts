/** Contest: ours and the rivals in the same rounds, with the median of each and our ratio to them. */
import type { PeerTask } from './peer-protocol.ts';
import type { Peer } from './peers.ts';
import { type PeerOutcome, rounded } from './report.ts';
import { type Contender, median, runRounds } from './rounds.ts';

/** What the kernels and the just-in-time compiler need to settle. */
const WARM_UPS = 1;

export interface Rivals {
  peers: readonly Peer[];
  /** Those that could not be started. */
  missing: readonly PeerOutcome[];
  task: PeerTask;
  rounds: number;
}

export interface Contest {
  /** The median rate of a contender or of a peer that was measured. */
  of(name: string): number;
  measured: readonly Peer[];
  outcomes: readonly PeerOutcome[];
  /** Of one of ours to each rival. */
  ratios(name: string): Record<string, number>;
}

/** Rates, so that more is better. One of ours that fails rejects; a rival that fails becomes an outcome with its reason. */
export async function runContest(
  ours: readonly Contender[],
  { peers, missing, task, rounds }: Rivals,
): Promise<Contest> {
  const theirs = peers.map((peer) => ({ name: peer.name, measure: () => peer.perSecond(task) }));
  const found = await runRounds([...ours, ...theirs], { rounds, warmUps: WARM_UPS });
  const of = (name: string): number => {
    const own = found.get(name)!;
    if ('failure' in own) throw new Error(own.failure);
    return median(own.samples);
  };
  for (const { name } of ours) of(name);
  const outcomes: PeerOutcome[] = peers.map(({ name, version }) => {
    const own = found.get(name)!;
    if ('failure' in own) return { name, outcome: 'not_measured', reason: own.failure };
    return { name, outcome: 'measured', version };
  });
  const measured = peers.filter(({ name }) => 'samples' in found.get(name)!);
  return {
    of,
    measured,
    outcomes: [...outcomes, ...missing],
    ratios: (name) => Object.fromEntries(measured.map((peer) => [peer.name, rounded(of(name) / of(peer.name))])),
  };
}
