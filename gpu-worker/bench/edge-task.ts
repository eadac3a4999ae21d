/** EdgeTask: `nibble bench edge`, what the edge costs a request, beside other gateways. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { type Options, usage } from '../command-line.ts';
import { commitOf, hostOf } from './device.ts';
import type { EdgeMeasured, EdgeSettings } from './edge-protocol.ts';
import { PEER_CACHE } from './peers.ts';
import { type BenchReport, type BenchResult, rounded } from './report.ts';

const PROGRAM = join(import.meta.dirname, '..', '..', 'bench', 'edge', 'run.ts');
const RIVALS = ['litellm', 'portkey'];

export async function benchEdge(options: Options): Promise<BenchReport> {
  const settings: EdgeSettings = {
    rivals: rivalsOf(options),
    rounds: options.number('rounds') ?? 5,
    seconds: options.number('seconds') ?? 4,
    clients: options.number('clients') ?? 32,
    tokens: options.number('new-tokens') ?? 32,
    streams: options.number('streams') ?? 1000,
    cache: PEER_CACHE,
  };
  const measured = await measuredBy(settings);
  const [direct, nibble, ...rivals] = measured.gateways;
  const added = (gateway: EdgeMeasured['gateways'][number], what: 'firstTokenMs' | 'perTokenMs', at: 'p50' | 'p99') =>
    gateway[what][at] - direct![what][at];
  const results: BenchResult[] = measured.gateways.flatMap((gateway) => {
    const of = (name: string, value: number, unit: string) => ({
      name: `${gateway.name}: ${name}`,
      value: rounded(value),
      unit,
    });
    const rates = [
      of('requests/s', gateway.requestsPerS, 'requests/s'),
      of('streams/s', gateway.streamsPerS, 'streams/s'),
    ];
    if (gateway === direct) return [...rates, of('first token p50', gateway.firstTokenMs.p50, 'ms')];
    return [
      ...rates,
      of('added to the first token, p50', added(gateway, 'firstTokenMs', 'p50'), 'ms'),
      of('added to the first token, p99', added(gateway, 'firstTokenMs', 'p99'), 'ms'),
      of('added a token, p50', added(gateway, 'perTokenMs', 'p50'), 'ms'),
      of('added a token, p99', added(gateway, 'perTokenMs', 'p99'), 'ms'),
      of('memory', gateway.residentBytes, 'bytes'),
    ];
  });
  const { open } = measured;
  if (open !== null)
    results.push(
      { name: 'open streams: count', value: open.streams, unit: 'streams' },
      { name: 'open streams: memory a stream', value: rounded(open.bytes / open.streams), unit: 'bytes' },
      { name: 'open streams: until all had a token', value: rounded(open.openMs), unit: 'ms' },
    );
  // A rival's own ratio is of requests/s.
  const ratios = Object.fromEntries(
    rivals.flatMap((rival) => [
      [rival.name, rounded(nibble!.requestsPerS / rival.requestsPerS)],
      [
        `${rival.name}, added to the first token`,
        rounded(added(rival, 'firstTokenMs', 'p50') / added(nibble!, 'firstTokenMs', 'p50')),
      ],
    ]),
  );
  const { rivals: _, cache: __, ...counts } = settings;
  const notes = Object.fromEntries(measured.gateways.map(({ name, note }) => [name, note]));
  return {
    task: 'edge',
    device: hostOf(),
    commit: commitOf(),
    backend: nibble!.version,
    settings: { ...counts, ...notes },
    results,
    ratios,
    peers: [
      ...rivals.map(({ name, version }) => ({ name, outcome: 'measured' as const, version })),
      ...measured.missing.map(({ name, reason }) => ({ name, outcome: 'not_measured' as const, reason })),
    ],
  };
}

function rivalsOf(options: Options): readonly string[] {
  if (!options.on('peers')) {
    if (options.has('rivals')) throw usage('--rivals goes with --peers');
    return [];
  }
  const names = (options.text('rivals') ?? RIVALS.join(',')).split(',').map((name) => name.trim());
  const unknown = names.find((name) => !RIVALS.includes(name));
  if (unknown !== undefined) throw usage(`--rivals: "${unknown}" is not one of ${RIVALS.join(', ')}`);
  return names;
}

function measuredBy(settings: EdgeSettings): Promise<EdgeMeasured> {
  const child = fork(PROGRAM, [JSON.stringify(settings)], { stdio: ['ignore', 2, 2, 'ipc'] });
  return new Promise((resolve, reject) => {
    let measured: EdgeMeasured | null = null;
    child.once('message', (message) => {
      measured = message as EdgeMeasured;
    });
    child.once('exit', (code) =>
      measured === null ? reject(new Error(`the bench of the edge ended with ${code}`)) : resolve(measured),
    );
  });
}
