/** Report: what a bench run found, as JSON and as a table. */

export interface BenchResult {
  name: string;
  value: number;
  unit: string;
}

export interface BenchReport {
  task: string;
  device: string;
  commit: string;
  backend: string;
  /** What was measured, in the command's own words: shape, formats, counts. */
  settings: Readonly<Record<string, string | number | boolean>>;
  results: readonly BenchResult[];
  /** ours / theirs by rival, above 1 when ours is better. */
  ratios: Readonly<Record<string, number>>;
  /** Every rival asked for, with what it is or why there is no number. */
  peers: readonly PeerOutcome[];
}

export type PeerOutcome =
  | { name: string; outcome: 'measured'; version: string }
  | { name: string; outcome: 'not_measured'; reason: string };

/** Four significant digits: more than any clock here is good for. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** For people: results of one thing, whose names differ after a colon only, on one line. */
export function tableOf({ task, device, commit, backend, settings, results, ratios, peers }: BenchReport): string {
  const lines = new Map<string, string[]>();
  for (const { name, value, unit } of results) {
    const [thing = '', property] = name.split(': ');
    const own = lines.get(thing) ?? [];
    own.push(
      `${value.toLocaleString('en', { maximumSignificantDigits: 4 })} ${property?.startsWith('of the') ? property : unit}`,
    );
    lines.set(thing, own);
  }
  const width = Math.max(...[...lines.keys()].map(({ length }) => length));
  return [
    `${task} on ${backend}, ${device}, commit ${commit}`,
    Object.entries(settings)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
    '',
    ...[...lines].map(([thing, values]) => `${thing.padEnd(width)}  ${values.join(', ')}`),
    ...Object.entries(ratios).map(([rival, ratio]) => `${ratio.toFixed(2)} times ${rival}`),
    ...peers
      .filter((peer) => peer.outcome === 'not_measured')
      .map(({ name, reason }) => `${name} was not measured: ${reason}`),
  ].join('\n');
}
