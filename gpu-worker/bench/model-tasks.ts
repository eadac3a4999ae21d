/** ModelTasks: `nibble bench decode` and `prefill`, alone or with rivals in the same rounds. */
import type { Options } from '../command-line.ts';
import { commitOf, deviceOf } from './device.ts';
import type { PeerTask } from './peer-protocol.ts';
import { MODEL_PEERS, PEER_CACHE, type Peer, startPeers } from './peers.ts';
import type { BenchReport, BenchResult, PeerOutcome } from './report.ts';
import { rounded } from './report.ts';
import { type Contender, median, runRounds } from './rounds.ts';
import { Steps } from './steps.ts';
import { openSubject, SEED, type Subject } from './subject.ts';

/** What the kernels and the just-in-time compiler need to settle. */
const WARM_UPS = 1;
const OURS = 'nibble';

interface Round {
  subject: Subject;
  steps: Steps;
  peers: readonly Peer[];
  missing: readonly PeerOutcome[];
  rounds: number;
}

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

export async function benchDecode(options: Options, counts: TaskCounts): Promise<BenchReport> {
  const { batches, newTokens, rounds } = counts;
  // llama.cpp answers to a prompt; one token is the shortest.
  const context = Math.max(1, counts.context);
  const tokens = context + newTokens;
  return withSubject(
    options,
    counts,
    { batch: Math.max(...batches), tokens },
    async (round) => {
      const { steps, subject, peers } = round;
      await steps.prefill(context, Math.max(...batches));
      const contenders: Contender[] = batches.map((batch) => ({
        name: `batch ${batch}`,
        measure: async () => (batch * newTokens * 1000) / (await steps.decode(context, newTokens, batch)).ms,
      }));
      const task: PeerTask = { kind: 'decode', context, steps: newTokens };
      const rates = await measureAll(contenders, round, task, rounds);

      const results: BenchResult[] = [];
      for (const batch of batches) {
        const rate = rates.of(`batch ${batch}`);
        const bytes = steps.stepBytes(context, newTokens, batch);
        const stepsPerSecond = rate / batch;
        results.push(
          { name: `decode, batch ${batch}`, value: rounded(rate), unit: 'tokens/s' },
          { name: `step, batch ${batch}`, value: rounded(1000 / stepsPerSecond), unit: 'ms' },
          { name: `weights read a step, batch ${batch}`, value: bytes.weights, unit: 'bytes' },
          { name: `keys and values read a step, batch ${batch}`, value: bytes.keyValues, unit: 'bytes' },
          {
            name: `bytes read a token, batch ${batch}`,
            value: Math.round((bytes.weights + bytes.keyValues) / batch),
            unit: 'bytes',
          },
          {
            name: `effective bandwidth, batch ${batch}`,
            value: rounded(((bytes.weights + bytes.keyValues) * stepsPerSecond) / 1e9),
            unit: 'GB/s',
          },
        );
      }
      results.push(...rates.peerResults('decode'));
      const own = steps.stepBytes(context, newTokens, 1).weights;
      for (const peer of peers)
        if (rates.measured(peer.name))
          results.push(
            { name: `weights read a token, ${peer.name}`, value: peer.weightBytes, unit: 'bytes' },
            {
              name: `weights read a token, ours / ${peer.name}`,
              value: rounded(own / peer.weightBytes),
              unit: 'ratio',
            },
          );
      const settings = { ...subject.settings, context, 'new tokens': newTokens, rounds };
      return { settings, results, ratios: batches.includes(1) ? rates.ratios('batch 1') : {}, peers: rates.outcomes };
    },
    'decode',
  );
}

export async function benchPrefill(options: Options, counts: TaskCounts): Promise<BenchReport> {
  const { promptTokens: tokens, rounds } = counts;
  return withSubject(
    options,
    counts,
    { batch: 1, tokens },
    async (round) => {
      const { steps, subject } = round;
      const contender = { name: OURS, measure: async () => (tokens * 1000) / (await steps.prefill(tokens, 1)) };
      const rates = await measureAll([contender], round, { kind: 'prefill', tokens }, rounds);
      const rate = rates.of(OURS);
      const operations = prefillOperations(subject, tokens);
      const results: BenchResult[] = [
        { name: `prefill, ${tokens} tokens`, value: rounded(rate), unit: 'tokens/s' },
        { name: 'prompt', value: rounded((tokens * 1000) / rate), unit: 'ms' },
        { name: 'matrix products', value: rounded((operations * rate) / tokens / 1e12), unit: 'TFLOP/s' },
        ...rates.peerResults('prefill'),
      ];
      const settings = { ...subject.settings, 'prompt tokens': tokens, rounds };
      return { settings, results, ratios: rates.ratios(OURS), peers: rates.outcomes };
    },
    'prefill',
  );
}

/** A multiply-add is two; the head runs for one token only; attention is left out. */
function prefillOperations({ shape }: Subject, tokens: number): number {
  const { hidden, layers, ffn, heads, kvHeads, vocab } = shape;
  const kvWidth = (hidden / heads) * kvHeads;
  const layer = 2 * hidden * hidden + 2 * kvWidth * hidden + 3 * ffn * hidden;
  return 2 * (layers * layer * tokens + vocab * hidden);
}

type Found = Pick<BenchReport, 'settings' | 'results' | 'ratios' | 'peers'>;

async function withSubject(
  options: Options,
  counts: TaskCounts,
  room: { batch: number; tokens: number },
  measure: (round: Round) => Promise<Found>,
  task: string,
): Promise<BenchReport> {
  const subject = await openSubject(options, room.tokens);
  const { backend } = subject.graph;
  const steps = new Steps(subject.graph, {
    ...room,
    chunkTokens: counts.promptTokens,
    kvDtype: subject.kvDtype,
    seed: SEED,
  });
  const setup = {
    shape: subject.shape,
    threads: counts.threads,
    contextTokens: room.tokens,
    cacheDirectory: PEER_CACHE,
  };
  const { peers, missing } = await startPeers(options.on('peers') ? MODEL_PEERS : [], setup);
  try {
    const found = await measure({ subject, steps, peers, missing, rounds: counts.rounds });
    return { task, device: deviceOf(backend), commit: commitOf(), backend: backend.name, ...found };
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
    await backend.dispose();
  }
}

/** All contenders and peers in turn. A contender of ours that fails throws. */
async function measureAll(ours: readonly Contender[], { peers, missing }: Round, task: PeerTask, rounds: number) {
  const theirs = peers.map((peer) => ({ name: peer.name, measure: () => peer.perSecond(task) }));
  const found = await runRounds([...ours, ...theirs], { rounds, warmUps: WARM_UPS });
  const of = (name: string): number => {
    const own = found.get(name)!;
    if ('failure' in own) throw new Error(own.failure);
    return median(own.samples);
  };
  const measured = (name: string): boolean => 'samples' in found.get(name)!;
  const running = peers.filter(({ name }) => measured(name));
  const outcomes: PeerOutcome[] = peers.map(({ name, version }) => {
    const own = found.get(name)!;
    return 'failure' in own
      ? { name, outcome: 'not_measured', reason: own.failure }
      : { name, outcome: 'measured', version };
  });
  return {
    of,
    measured,
    outcomes: [...outcomes, ...missing],
    ratios: (name: string) => Object.fromEntries(running.map((peer) => [peer.name, rounded(of(name) / of(peer.name))])),
    peerResults: (label: string): BenchResult[] =>
      running.map(({ name }) => ({ name: `${label}, ${name}`, value: rounded(of(name)), unit: 'tokens/s' })),
  };
}
