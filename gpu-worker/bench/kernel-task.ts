/** KernelTask: `nibble bench kernels`, every op's time and what part of the device's best it reaches. */
import type { Backend } from '../../core/model/backend.ts';
import { backendChoice, openBackend } from '../backends.ts';
import type { Options } from '../command-line.ts';
import { kvDtypeOf } from '../model-flags.ts';
import { commitOf, deviceOf, measurableOf } from './device.ts';
import { compareGemv } from './gemv.ts';
import { KernelCases, type NamedCase } from './kernel-cases.ts';
import { KernelClock } from './kernel-clock.ts';
import type { TaskCounts } from './model-tasks.ts';
import { rivalsOf } from './peers.ts';
import { type BenchReport, type BenchResult, rounded } from './report.ts';
import { median } from './rounds.ts';
import { DEFAULT_SHAPE, parseShape } from './shape.ts';
import { SEED } from './subject.ts';
import { formatLabel, headFormatOf, weightFormatOf } from './weight-format.ts';

/** The best seen of each limit in the whole run: noise only ever takes away. null where the backend measures none. */
interface Limits {
  bandwidth: { what: string; perSecond: number };
  matmul: { what: string; perSecond: number };
}

export async function benchKernels(options: Options, counts: TaskCounts): Promise<BenchReport> {
  const text = options.text('shape') ?? DEFAULT_SHAPE;
  const [format, head] = [weightFormatOf(options), headFormatOf(options)];
  const context = counts.context === 0 ? 1024 : counts.context;
  const backend = await openBackend(backendChoice(options));
  try {
    const kvDtype = kvDtypeOf(options) ?? backend.defaultKvDtype;
    const sizes = { ...counts, shape: parseShape(text), format, head, context, kvDtype, seed: SEED };
    const { timed, limits } = await timeAll(backend, new KernelCases(backend, sizes));
    const results = [...limitResults(limits), ...timed.flatMap((found) => caseResults(found, limits))];
    const names = rivalsOf(options, 'gemv');
    const rivals =
      names.length > 0 ? await compareGemv(backend, names, counts) : { results: [], ratios: {}, peers: [] };
    return {
      task: 'kernels',
      device: deviceOf(backend),
      commit: commitOf(),
      backend: backend.name,
      settings: {
        shape: text,
        weights: formatLabel(format),
        head: formatLabel(head),
        'keys and values': kvDtype,
        context,
      },
      ...rivals,
      results: [...results, ...rivals.results],
    };
  } finally {
    await backend.dispose();
  }
}

interface TimedCase {
  kernel: NamedCase;
  ms: number;
}

async function timeAll(backend: Backend, cases: KernelCases): Promise<{ timed: TimedCase[]; limits: Limits | null }> {
  const clock = new KernelClock(backend);
  let limits = await measureLimits(backend, null);
  const timed: TimedCase[] = [];
  const time = async (kernels: NamedCase[]) => {
    for (const kernel of kernels) timed.push({ kernel, ms: median(await clock.samples(kernel)) });
    limits = await measureLimits(backend, limits);
  };
  await time(await cases.rowOps());
  for await (const kernels of cases.matrices()) await time(kernels);
  return { timed, limits };
}

async function measureLimits(backend: Backend, before: Limits | null): Promise<Limits | null> {
  const measurable = measurableOf(backend);
  if (measurable === null) return null;
  const [bandwidth, matmul] = [await measurable.measureBandwidth(), await measurable.measureMatmul()];
  if (before === null) return { bandwidth, matmul };
  return {
    bandwidth: bandwidth.perSecond > before.bandwidth.perSecond ? bandwidth : before.bandwidth,
    matmul: matmul.perSecond > before.matmul.perSecond ? matmul : before.matmul,
  };
}

function limitResults(limits: Limits | null): BenchResult[] {
  if (limits === null) return [];
  const { bandwidth, matmul } = limits;
  return [
    { name: `limit, ${bandwidth.what}`, value: rounded(bandwidth.perSecond / 1e9), unit: 'GB/s' },
    { name: `limit, ${matmul.what}`, value: rounded(matmul.perSecond / 1e12), unit: 'TFLOP/s' },
  ];
}

/** Time and rates; and, where the limits are known, the least time that they allow as a part of the time it took. */
function caseResults({ kernel, ms }: TimedCase, limits: Limits | null): BenchResult[] {
  const { name, bytes, operations } = kernel;
  const results = [
    { name: `${name}: time`, value: rounded(ms * 1000), unit: 'us' },
    { name: `${name}: bandwidth`, value: rounded(bytes / ms / 1e6), unit: 'GB/s' },
  ];
  if (operations > 0) results.push({ name: `${name}: rate`, value: rounded(operations / ms / 1e9), unit: 'TFLOP/s' });
  if (limits === null) return results;
  const [readMs, multiplyMs] = [
    (bytes * 1000) / limits.bandwidth.perSecond,
    (operations * 1000) / limits.matmul.perSecond,
  ];
  const bound = readMs >= multiplyMs ? 'bandwidth' : 'matmul';
  const part = rounded(Math.max(readMs, multiplyMs) / ms);
  return [...results, { name: `${name}: of the ${bound} limit`, value: part, unit: 'fraction' }];
}
