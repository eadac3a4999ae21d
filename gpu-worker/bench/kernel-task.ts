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

/** What the device does at best about the time of a case: neighbours on a machine take from both. */
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
    const { timed, measured } = await timeAll(backend, new KernelCases(backend, sizes));
    const results = [...limitResults(measured), ...timed.flatMap(caseResults)];
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
  /** The mean of those before it and behind it; null where the backend measures none. */
  limits: Limits | null;
}

/** `measured`: the limits in the order of their measurements, one more than cases. */
async function timeAll(backend: Backend, cases: KernelCases): Promise<{ timed: TimedCase[]; measured: Limits[] }> {
  const clock = new KernelClock(backend);
  let before = await measureLimits(backend);
  const measured = before === null ? [] : [before];
  const timed: TimedCase[] = [];
  const time = async (kernels: NamedCase[]) => {
    for (const kernel of kernels) {
      const ms = median(await clock.samples(kernel));
      const behind = await measureLimits(backend);
      timed.push({ kernel, ms, limits: before === null || behind === null ? null : meanOf(before, behind) });
      before = behind;
      if (behind !== null) measured.push(behind);
    }
  };
  await time(await cases.rowOps());
  for await (const kernels of cases.matrices()) await time(kernels);
  return { timed, measured };
}

async function measureLimits(backend: Backend): Promise<Limits | null> {
  const measurable = measurableOf(backend);
  if (measurable === null) return null;
  return { bandwidth: await measurable.measureBandwidth(), matmul: await measurable.measureMatmul() };
}

function meanOf(a: Limits, b: Limits): Limits {
  const mean = (key: keyof Limits) => ({ ...a[key], perSecond: (a[key].perSecond + b[key].perSecond) / 2 });
  return { bandwidth: mean('bandwidth'), matmul: mean('matmul') };
}

/** The medians of all measurements. */
function limitResults(measured: readonly Limits[]): BenchResult[] {
  const [first] = measured;
  if (first === undefined) return [];
  const { bandwidth, matmul } = first;
  const medianOf = (key: keyof Limits) => median(measured.map((limits) => limits[key].perSecond));
  return [
    { name: `limit, ${bandwidth.what}`, value: rounded(medianOf('bandwidth') / 1e9), unit: 'GB/s' },
    { name: `limit, ${matmul.what}`, value: rounded(medianOf('matmul') / 1e12), unit: 'TFLOP/s' },
  ];
}

/** Time and rates; and, where the limits are known, the least time that they allow as a part of the time it took. */
function caseResults({ kernel, ms, limits }: TimedCase): BenchResult[] {
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
