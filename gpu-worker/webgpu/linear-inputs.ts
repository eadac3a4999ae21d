/** LinearInputs: one activation as the linears of it want it, each form made once. */
import type { Activation } from '../../core/model/backend.ts';
import { foldGroups, type Space } from './row-ops.ts';
import type { GpuLinear, HalvesForm } from './weights/gpu-linear.ts';

const THREADS = 256;
const ORDERS = [0, 2, 3, 4, 8] as const satisfies readonly HalvesForm['order'][];

/** How activations lie for a kernel: f32; or f16 in an order of prepare_halves.wgsl, for at least so many tokens. */
export type InputForm = { kind: 'floats' } | ({ kind: 'halves'; tileTokens: number } & HalvesForm);

export class LinearInputs {
  readonly #space: Space;
  readonly #x: Activation;
  readonly #made = new Map<string, GPUBuffer[]>();
  readonly #scratch: GPUBuffer[] = [];

  constructor(space: Space, x: Activation) {
    this.#space = space;
    this.#x = x;
  }

  /** In the order of the kernels' first bindings. */
  of({ input, chunks }: GpuLinear, form: InputForm): GPUBuffer[] {
    const { gpu, activations } = this.#space;
    const source = activations.bufferOf(this.#x);
    if (form.kind === 'halves') {
      const channels = input.kind === 'channels' ? input.channels : null;
      const key = `${Object.values(form)}:${chunks}:${channels === null ? '' : gpu.pool.idOf(channels)}`;
      return this.#once(key, () => this.#halve(source, chunks, channels, form));
    }
    switch (input.kind) {
      case 'plain':
        return [source];
      case 'channels': {
        const key = `${chunks}:${input.channels === null ? '' : gpu.pool.idOf(input.channels)}`;
        return this.#once(key, () => this.#gather(source, chunks, input.channels));
      }
      case 'int8':
        return this.#once(`int8:${input.threshold}`, () => this.#quantize(source, chunks, input.threshold));
      default:
        return input satisfies never;
    }
  }

  /** Frees what was made; the products that use it were added. */
  release(): void {
    for (const buffer of this.#scratch) this.#space.activations.release(buffer);
  }

  #once(key: string, make: () => GPUBuffer[]): GPUBuffer[] {
    let buffers = this.#made.get(key);
    if (buffers === undefined) {
      buffers = make();
      this.#made.set(key, buffers);
    }
    return buffers;
  }

  #take(bytes: number): GPUBuffer {
    const buffer = this.#space.activations.scratch(bytes);
    this.#scratch.push(buffer);
    return buffer;
  }

  #gather(source: GPUBuffer, chunks: number, channels: GPUBuffer | null): GPUBuffer[] {
    const { gpu } = this.#space;
    const { rows, cols } = this.#x;
    const count = rows * chunks * 32;
    const y = this.#take(4 * count);
    const kernel = gpu.kernels.get('gather_channels', { THREADS, PERMUTED: channels !== null });
    const buffers = [source, y, ...(channels === null ? [] : [channels])];
    const params = { count, xCols: cols, yCols: chunks * 32 };
    gpu.dispatch(kernel, params, buffers, ...foldGroups(Math.ceil(count / THREADS)));
    return [y];
  }

  #halve(
    source: GPUBuffer,
    chunks: number,
    channels: GPUBuffer | null,
    { order, largest, tileTokens }: Extract<InputForm, { kind: 'halves' }>,
  ): GPUBuffer[] {
    const { gpu } = this.#space;
    const { rows, cols } = this.#x;
    const halves = this.#take(Math.ceil(rows / tileTokens) * tileTokens * chunks * 64);
    const factors = this.#take(4 * rows);
    const orders = Object.fromEntries(ORDERS.map((other) => [`ORDER_${other}`, other === order]));
    const kernel = gpu.kernels.get('prepare_halves', {
      THREADS,
      LARGEST: largest,
      PERMUTED: channels !== null,
      ...orders,
    });
    const buffers = [source, halves, factors, ...(channels === null ? [] : [channels])];
    gpu.dispatch(kernel, { tokens: rows, inFeatures: cols, chunks }, buffers, ...foldGroups(rows));
    return [halves, factors];
  }

  #quantize(source: GPUBuffer, chunks: number, threshold: number): GPUBuffer[] {
    const { gpu } = this.#space;
    const { rows, cols } = this.#x;
    const hasOutliers = threshold > 0;
    const codes = this.#take(rows * chunks * 32);
    const absmax = this.#take(4 * rows);
    const masks = hasOutliers ? [this.#take(4 * rows * chunks)] : [];
    const kernel = gpu.kernels.get('quantize_int8', { THREADS, OUTLIERS: hasOutliers });
    const params = { tokens: rows, inFeatures: cols, chunks, threshold };
    gpu.dispatch(kernel, params, [source, codes, absmax, ...masks], ...foldGroups(rows));
    return [codes, absmax, ...masks, ...(hasOutliers ? [source] : [])];
  }
}
