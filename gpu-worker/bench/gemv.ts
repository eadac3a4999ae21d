/** Gemv: one int4 product of a vector, the result read back each time, against onnxruntime-web, which has no whole model to compare. */
import type { Backend, Batch } from '../../core/model/backend.ts';
import { runContest } from './contest.ts';
import type { TaskCounts } from './model-tasks.ts';
import { PEER_CACHE, startPeers } from './peers.ts';
import { RandomWords } from './random-words.ts';
import { type BenchReport, rounded } from './report.ts';
import { DEFAULT_SHAPE, parseShape } from './shape.ts';
import { SEED } from './subject.ts';
import { randomWeight } from './weight-format.ts';

const SIZE = 2048;
const FORMAT = { kind: 'gptq', bits: 4, groupSize: 32, sym: true, actOrder: false } as const;
const OURS = 'nibble';
const NAME = `gemv gptq4-g32 ${SIZE}x${SIZE}`;
const MEASURE_MS = 1000;

/** One token, no keys and values. */
const BATCH: Batch = {
  tokenIds: Int32Array.of(0),
  positions: Int32Array.of(0),
  slots: Int32Array.of(0),
  sequenceOf: Int32Array.of(0),
  pageTables: Int32Array.of(0),
  maxPages: 1,
  outputRows: Int32Array.of(0),
  plannedTokens: Int32Array.of(1),
};

/** The backend must have key/value pages. */
export async function compareGemv(
  backend: Backend,
  rivals: readonly string[],
  { threads, rounds }: TaskCounts,
): Promise<Pick<BenchReport, 'results' | 'ratios' | 'peers'>> {
  const setup = { shape: parseShape(DEFAULT_SHAPE), threads, contextTokens: 1, cacheDirectory: PEER_CACHE };
  const { peers, missing } = await startPeers(rivals, setup);
  try {
    const random = new RandomWords(SEED);
    const weight = await backend.loadLinear(randomWeight(FORMAT, { name: NAME, out: SIZE, in: SIZE }, random), NAME);
    const bytes = new Uint8Array(random.uniform(SIZE, -1, 1).buffer);
    const input = { kind: 'dense', outFeatures: 1, inFeatures: SIZE, dtype: 'f32', bytes, bias: null } as const;
    const table = await backend.loadLinear(input, 'input');
    const measure = async () => {
      const started = performance.now();
      let products = 0;
      for (; performance.now() - started < MEASURE_MS; products++) {
        backend.begin(BATCH);
        await backend.read(backend.linear(backend.embed(table, Int32Array.of(0), 1), weight));
      }
      return (products * 1000) / (performance.now() - started);
    };
    const contest = await runContest([{ name: OURS, measure }], { peers, missing, task: { kind: 'gemv' }, rounds });
    const microseconds = (name: string) => rounded(1e6 / contest.of(name));
    return {
      results: [
        { name: NAME, value: microseconds(OURS), unit: 'us' },
        ...contest.measured.map(({ name }) => ({ name: `${NAME}, ${name}`, value: microseconds(name), unit: 'us' })),
      ],
      ratios: contest.ratios(OURS),
      peers: contest.outcomes,
    };
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
  }
}
