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

export function tableOf({ task, device, commit, backend, settings, results, ratios, peers }: BenchReport): string {
  const width = Math.max(...results.map(({ name }) => name.length));
  const values = results.map(({ value }) => value.toLocaleString('en', { maximumSignificantDigits: 4 }));
  const valueWidth = Math.max(...values.map(({ length }) => length));
  return [
    `${task} on ${backend}, ${device}, commit ${commit}`,
    Object.entries(settings)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
    '',
    ...results.map(({ name, unit }, i) => `${name.padEnd(width)}  ${values[i]!.padStart(valueWidth)} ${unit}`),
    ...Object.entries(ratios).map(([rival, ratio]) => `${ratio.toFixed(2)} x ${rival}`),
    ...peers
      .filter((peer) => peer.outcome === 'not_measured')
      .map(({ name, reason }) => `${name} was not measured: ${reason}`),
  ].join('\n');
}
