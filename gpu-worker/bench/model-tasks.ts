/** ModelTasks: `nibble bench decode` and `prefill`, alone or with rivals in the same rounds. */
import type { Options } from '../command-line.ts';
import { type Contest, type Rivals, runContest } from './contest.ts';
import { commitOf, deviceOf, threadsOf } from './device.ts';
import { profile } from './op-times.ts';
import { PEER_CACHE, rivalsOf, startPeers } from './peers.ts';
import { type BenchReport, type BenchResult, rounded } from './report.ts';
import { Steps } from './steps.ts';
import { openSubject, SEED, type Subject } from './subject.ts';

export interface TaskCounts {
  /** Sequences that decode together, each count on its own. */
  batches: readonly number[];
  /** Tokens in the cache before the first decoded one. */
  context: number;
  /** Tokens that a measurement decodes. */
  newTokens: number;
  promptTokens: number;
  rounds: number;
  threads: number;
}

interface Bench {
  subject: Subject;
  steps: Steps;
  /** The same model on one thread, where the other has several. */
  onOneThread: Steps | null;
  rivals: Omit<Rivals, 'task'>;
  options: Options;
}

/** A contender beside ours on several threads. */
const ONE_THREAD = 'one thread';

type Found = Pick<BenchReport, 'settings' | 'results' | 'ratios' | 'peers'>;

export function benchDecode(options: Options, counts: TaskCounts): Promise<BenchReport> {
  // llama.cpp answers to a prompt; one token is the shortest.
  const context = Math.max(1, counts.context);
  const room = { batch: Math.max(...counts.batches), tokens: context + counts.newTokens };
  return withSubject('decode', options, counts, room, (bench) => decode(bench, { ...counts, context }));
}

export function benchPrefill(options: Options, counts: TaskCounts): Promise<BenchReport> {
  const room = { batch: 1, tokens: counts.promptTokens };
  return withSubject('prefill', options, counts, room, (bench) => prefill(bench, counts.promptTokens));
}

async function decode({ steps, onOneThread, subject, rivals, options }: Bench, counts: TaskCounts): Promise<Found> {
  const { batches, context, newTokens } = counts;
  await steps.prefill(context, Math.max(...batches));
  const contender = (name: string, of: Steps, batch: number) => ({
    name,
    measure: async () => (batch * newTokens * 1000) / (await of.decode(context, newTokens, batch)).ms,
  });
  const contenders = batches.map((batch) => contender(`batch ${batch}`, steps, batch));
  if (onOneThread !== null) {
    await onOneThread.prefill(context, batches[0]!);
    contenders.push(contender(ONE_THREAD, onOneThread, batches[0]!));
  }
  const task = { kind: 'decode', context, steps: newTokens } as const;
  const contest = await runContest(contenders, { ...rivals, task });
  const profiled = await profileResults(options, subject, async () => {
    await steps.decode(context, newTokens, batches[0]!);
  });
  return {
    settings: { ...subject.settings, context, 'new tokens': newTokens, rounds: rivals.rounds },
    results: [
      ...batches.flatMap((batch) => decodeResults(contest.of(`batch ${batch}`), batch, steps, counts)),
      ...oneThreadRate(contest, 'decode', onOneThread),
      ...peerRates(contest, 'decode'),
      ...peerBytes(contest, steps.stepBytes(context, newTokens, 1).weights),
      ...profiled,
    ],
    ratios: {
      ...(batches.includes(1) ? contest.ratios('batch 1') : {}),
      ...oneThreadRatio(contest, `batch ${batches[0]!}`, onOneThread),
    },
    peers: contest.outcomes,
  };
}

/** rate: tokens of all sequences a second. */
function decodeResults(rate: number, batch: number, steps: Steps, { context, newTokens }: TaskCounts): BenchResult[] {
  const { weights, keyValues } = steps.stepBytes(context, newTokens, batch);
  const stepsPerSecond = rate / batch;
  const bytes = weights + keyValues;
  const named = (name: string, value: number, unit: string) => ({ name: `${name}, batch ${batch}`, value, unit });
  return [
    named('decode', rounded(rate), 'tokens/s'),
    named('step', rounded(1000 / stepsPerSecond), 'ms'),
    named('weights read a step', weights, 'bytes'),
    named('keys and values read a step', keyValues, 'bytes'),
    named('bytes read a token', Math.round(bytes / batch), 'bytes'),
    named('effective bandwidth', rounded((bytes * stepsPerSecond) / 1e9), 'GB/s'),
  ];
}

async function prefill({ steps, onOneThread, subject, rivals, options }: Bench, tokens: number): Promise<Found> {
  const contender = (name: string, of: Steps) => ({
    name,
    measure: async () => (tokens * 1000) / (await of.prefill(tokens, 1)),
  });
  const ours = contender('nibble', steps);
  const contenders = onOneThread === null ? [ours] : [ours, contender(ONE_THREAD, onOneThread)];
  const contest = await runContest(contenders, { ...rivals, task: { kind: 'prefill', tokens } });
  const rate = contest.of(ours.name);
  const profiled = await profileResults(options, subject, async () => {
    await steps.prefill(tokens, 1);
  });
  return {
    settings: { ...subject.settings, 'prompt tokens': tokens, rounds: rivals.rounds },
    results: [
      { name: `prefill, ${tokens} tokens`, value: rounded(rate), unit: 'tokens/s' },
      { name: 'prompt', value: rounded((tokens * 1000) / rate), unit: 'ms' },
      {
        name: 'matrix products',
        value: rounded((prefillOperations(subject, tokens) * rate) / tokens / 1e12),
        unit: 'TFLOP/s',
      },
      ...oneThreadRate(contest, 'prefill', onOneThread),
      ...peerRates(contest, 'prefill'),
      ...profiled,
    ],
    ratios: { ...contest.ratios(ours.name), ...oneThreadRatio(contest, ours.name, onOneThread) },
    peers: contest.outcomes,
  };
}

/** A multiply-add is two; the head, and the last layer behind its keys and values, run for one token only; attention is left out. */
function prefillOperations({ shape }: Subject, tokens: number): number {
  const { hidden, layers, ffn, heads, kvHeads, vocab } = shape;
  const kvWidth = (hidden / heads) * kvHeads;
  const before = hidden * hidden + 2 * kvWidth * hidden;
  const behind = hidden * hidden + 3 * ffn * hidden;
  return 2 * (layers * before * tokens + behind * ((layers - 1) * tokens + 1) + vocab * hidden);
}

function oneThreadRate(contest: Contest, task: string, onOneThread: Steps | null): BenchResult[] {
  if (onOneThread === null) return [];
  return [{ name: `${task}, ${ONE_THREAD}`, value: rounded(contest.of(ONE_THREAD)), unit: 'tokens/s' }];
}

function oneThreadRatio(contest: Contest, ours: string, onOneThread: Steps | null): Record<string, number> {
  return onOneThread === null ? {} : { [ONE_THREAD]: rounded(contest.of(ours) / contest.of(ONE_THREAD)) };
}

function peerRates(contest: Contest, task: string): BenchResult[] {
  return contest.measured.map(({ name }) => {
    return { name: `${task}, ${name}`, value: rounded(contest.of(name)), unit: 'tokens/s' };
  });
}

/** own: bytes of our weights that a token reads. */
function peerBytes({ measured }: Contest, own: number): BenchResult[] {
  return measured.flatMap(({ name, weightBytes }) => [
    { name: `weights read a token, ${name}`, value: weightBytes, unit: 'bytes' },
    { name: `weights read a token, ours to ${name}`, value: rounded(own / weightBytes), unit: 'ratio' },
  ]);
}

/** One measurement more, with --profile. */
async function profileResults(options: Options, { graph }: Subject, run: () => Promise<void>): Promise<BenchResult[]> {
  if (!options.on('profile')) return [];
  const kernels = await profile(graph.backend, run);
  return kernels.map(({ kernel, calls, ms }) => {
    return { name: `profile, ${calls} times ${kernel}`, value: rounded(ms), unit: 'ms' };
  });
}

async function withSubject(
  task: string,
  options: Options,
  { promptTokens: chunkTokens, rounds, threads }: TaskCounts,
  room: { batch: number; tokens: number },
  measure: (bench: Bench) => Promise<Found>,
): Promise<BenchReport> {
  const subject = await openSubject(options, room.tokens);
  const { shape, kvDtype, graph } = subject;
  const { backend } = graph;
  const alone = threadsOf(backend) > 1 ? await openSubject(options.with('threads', 1), room.tokens) : null;
  const setup = { shape, threads, contextTokens: room.tokens, cacheDirectory: PEER_CACHE };
  const { peers, missing } = await startPeers(rivalsOf(options, 'model'), setup);
  try {
    const stepsOf = (own: Subject) => new Steps(own.graph, { ...room, chunkTokens, kvDtype, seed: SEED });
    const onOneThread = alone === null ? null : stepsOf(alone);
    const rivals = { peers, missing, rounds };
    const found = await measure({ subject, steps: stepsOf(subject), onOneThread, rivals, options });
    return { task, device: deviceOf(backend), commit: commitOf(), backend: backend.name, ...found };
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
    await backend.dispose();
    await alone?.graph.backend.dispose();
  }
}
