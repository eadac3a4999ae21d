/** KernelClock: how long one op takes on a backend, from many in a row. */
import type { Activation, Backend, Batch } from '../../core/model/backend.ts';
import { measurableOf } from './device.ts';

/** A measurement lasts about so long: enough for any clock, and for what a GPU takes to wake up. */
const MEASURE_MS = 60;
const WARM_UP_MS = 150;
const SAMPLES = 5;
const MAX_OPS = 400;
/** Activations of one step; a bump allocator gives none back before its end. */
const MAX_STEP_BYTES = 256 * 2 ** 20;

export interface KernelCase {
  batch: Batch;
  /** The inputs, made once in each step and not timed. */
  prepare(): Activation[];
  /** The op; `turn` counts calls, so that a case can go through weights that no cache holds. Gives something of the result to wait for. */
  run(inputs: Activation[], turn: number): Activation | Promise<Activation>;
  /** Bytes of activations that one op allocates. */
  resultBytes: number;
}

/** Milliseconds of one op: the device's own time where the backend tells it, else the clock on the wall. One sample a call. */
export class KernelClock {
  readonly #backend: Backend;
  #turn = 0;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** SAMPLES samples, after a warm-up. */
  async samples(kernel: KernelCase): Promise<number[]> {
    const most = Math.max(1, Math.min(MAX_OPS, Math.floor(MAX_STEP_BYTES / Math.max(1, kernel.resultBytes))));
    let count = 1;
    const started = performance.now();
    // Until two things are known: that it is warm, and how many ops fill a measurement.
    for (;;) {
      const ms = await this.#wallMs(kernel, count);
      const next = Math.max(1, Math.min(most, Math.round(MEASURE_MS / Math.max(ms, 1e-4))));
      const isSteady = next <= count * 1.5;
      count = Math.max(count, next);
      if (isSteady && performance.now() - started > WARM_UP_MS) break;
    }
    const samples: number[] = [];
    for (let sample = 0; sample < SAMPLES; sample++) samples.push(await this.#sample(kernel, count));
    return samples;
  }

  async #sample(kernel: KernelCase, count: number): Promise<number> {
    const measurable = measurableOf(this.#backend);
    if (measurable?.profile === undefined) return this.#wallMs(kernel, count);
    const inputs = this.#begin(kernel);
    await this.#settle(inputs[0]!);
    const kernels = await measurable.profile(async () => {
      await this.#settle(await this.#runAll(kernel, inputs, count));
    });
    // What #settle itself runs is not the op's.
    const own = kernels.filter((timed) => !timed.kernel.startsWith('gather_rows'));
    return own.reduce((sum, { ms }) => sum + ms, 0) / count;
  }

  async #wallMs(kernel: KernelCase, count: number): Promise<number> {
    const inputs = this.#begin(kernel);
    await this.#settle(inputs[0]!);
    const started = performance.now();
    await this.#settle(await this.#runAll(kernel, inputs, count));
    return (performance.now() - started) / count;
  }

  #begin(kernel: KernelCase): Activation[] {
    this.#backend.begin(kernel.batch);
    return kernel.prepare();
  }

  async #runAll(kernel: KernelCase, inputs: Activation[], count: number): Promise<Activation> {
    let last = inputs[0]!;
    for (let i = 0; i < count; i++) {
      const result = kernel.run(inputs, this.#turn++);
      last = result instanceof Promise ? await result : result;
    }
    return last;
  }

  /** Waits for the device and copies one row. */
  async #settle(x: Activation): Promise<void> {
    await this.#backend.read(this.#backend.gatherRows(x, Int32Array.of(0)));
  }
}
