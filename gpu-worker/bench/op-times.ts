/** OpTimes: what each op of a run took, on a backend that does not tell it itself, by the clock around each call. */
import type { Activation, Backend, KernelTime, Linear } from '../../core/model/backend.ts';
import { measurableOf } from './device.ts';

/** Every method of Backend that computes. */
const OPS = [
  'embed',
  'rmsNorm',
  'addRmsNorm',
  'layerNorm',
  'add',
  'linear',
  'linears',
  'gatedLinear',
  'ropeKv',
  'attention',
  'gated',
  'activate',
  'columns',
  'gatherRows',
  'softcap',
  'top',
] as const satisfies readonly (keyof Backend)[];

type Op = (...args: unknown[]) => unknown;

/** Runs `run` and sums what its kernels took, largest first: by the backend's own clock where it has one, else by timing its calls. */
export async function profile(backend: Backend, run: () => Promise<void>): Promise<KernelTime[]> {
  const own = measurableOf(backend);
  return own?.profile === undefined ? timeCalls(backend, run) : own.profile(run);
}

/** Right where an op is done when its call returns. Of an op that calls others only its own part counts. */
async function timeCalls(backend: Backend, run: () => Promise<void>): Promise<KernelTime[]> {
  const times = new Map<string, KernelTime>();
  /** Time of the ops called so far by each op that is under way. */
  const inner: number[] = [0];
  const ops = backend as unknown as Record<string, Op>;
  for (const name of OPS) {
    const original = ops[name]!;
    // On the object itself, so that it hides the class's method until it is deleted.
    ops[name] = (...args: unknown[]) => {
      inner.push(0);
      const started = performance.now();
      const result = original.apply(backend, args);
      const ms = performance.now() - started;
      const ofOthers = inner.pop()!;
      inner[inner.length - 1]! += ms;
      const kernel = labelOf(name, args);
      const time = times.get(kernel) ?? { kernel, calls: 0, ms: 0 };
      times.set(kernel, { kernel, calls: time.calls + 1, ms: time.ms + ms - ofOthers });
      return result;
    };
  }
  try {
    await run();
  } finally {
    for (const name of OPS) delete ops[name];
  }
  return [...times.values()].sort((a, b) => b.ms - a.ms);
}

/** "linear 1x768 -> 2048" */
function labelOf(name: string, args: readonly unknown[]): string {
  const x = args.find((arg): arg is Activation => typeof arg === 'object' && arg !== null && 'rows' in arg);
  const weight = args.find((arg): arg is Linear => typeof arg === 'object' && arg !== null && 'outFeatures' in arg);
  const from = x === undefined ? '' : ` ${x.rows}x${x.cols}`;
  return `${name}${from}${weight === undefined ? '' : ` -> ${weight.outFeatures}`}`;
}
