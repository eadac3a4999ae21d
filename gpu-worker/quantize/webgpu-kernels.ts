/** WebGpuKernels: the solver's sums of products and sweep on a GPU. Factors, which need f64, and grids over whole rows come from another kernel set. */
import { NibbleError } from '../../core/errors.ts';
import type { Gpu } from '../webgpu/gpu.ts';
import type { Factor, HessianSum, SolverKernels, SweepGroups, Swept } from './kernels.ts';
import { BLOCK_COLUMNS, maxLevel, type SolverOptions } from './solver-options.ts';
import type { WasmKernels } from './wasm-kernels.ts';

/** Rows of a workgroup of solver_sweep.wgsl: their errors fill the workgroup memory that every adapter has. */
const THREADS = 32;
/** Of solver_product.wgsl. */
const TILE = 32;

interface WebGpuFactor extends Factor {
  /** [columns, stride] f32: row i holds U[0..i, i] */
  lower: GPUBuffer;
  stride: number;
}

/** c [left, right] += sign · aᵀ · b over `terms`: solver_product.wgsl. */
interface Product {
  a: GPUBuffer;
  b: GPUBuffer;
  c: GPUBuffer;
  left: number;
  right: number;
  terms: number;
  leftStride: number;
  leftAt: number;
  outAt: number;
  sign: 1 | -1;
  shape: 'whole' | 'upper';
  /** rows: a [terms, left]; columns: a [left, terms]. */
  leftLayout: 'rows' | 'columns';
}

export class WebGpuKernels implements SolverKernels {
  readonly name = 'webgpu';
  readonly #gpu: Gpu;
  readonly #cpu: WasmKernels;

  /** Both are closed with it. */
  constructor(gpu: Gpu, cpu: WasmKernels) {
    this.#gpu = gpu;
    this.#cpu = cpu;
  }

  hessian(columns: number): HessianSum {
    const gpu = this.#gpu;
    const sum = this.#zeros(columns * columns, 'a Hessian');
    return {
      add: async (x) => {
        if (x.length === 0) return;
        const tokens = x.length / columns;
        const inputs = this.#place(x, 'activations');
        const shape = {
          left: columns,
          right: columns,
          terms: tokens,
          leftStride: columns,
          leftAt: 0,
          outAt: 0,
        } as const;
        this.#product({ a: inputs, b: inputs, c: sum, ...shape, sign: 1, shape: 'upper', leftLayout: 'rows' });
        gpu.flush();
        gpu.pool.give(inputs);
      },
      finish: async (factor) => {
        const hessian = new Float32Array(await gpu.read(sum, 4 * columns * columns));
        gpu.pool.give(sum);
        for (let i = 0; i < columns; i++)
          for (let j = i; j < columns; j++) {
            const value = hessian[i * columns + j]! * factor;
            hessian[i * columns + j] = value;
            hessian[j * columns + i] = value;
          }
        return hessian;
      },
    };
  }

  async factor(hessian: Float32Array, columns: number, damping: number): Promise<Factor | null> {
    const cpu = this.#cpu;
    const factor = await cpu.factor(hessian, columns, damping);
    if (factor === null) return null;
    const { values, stride } = cpu.lowerOf(factor);
    cpu.release(factor);
    const made: WebGpuFactor = { columns, lower: this.#place(values, 'a factored Hessian'), stride };
    return made;
  }

  release(factor: Factor): void {
    this.#gpu.pool.give((factor as WebGpuFactor).lower);
  }

  async sweep(weight: Float32Array, factor: Factor, groups: SweepGroups, options: SolverOptions): Promise<Swept> {
    const gpu = this.#gpu;
    const { columns, lower, stride } = factor as WebGpuFactor;
    const rows = weight.length / columns;
    const groupOf =
      groups.kind === 'given'
        ? groups.groupOf
        : Int32Array.from({ length: columns }, (_, column) => Math.floor(column / groups.groupSize));
    const groupCount = groups.kind === 'given' ? groups.scales.length / rows : Math.ceil(columns / groups.groupSize);
    const w = this.#place(transposed(weight, rows, columns), 'a weight');
    const groupsAt = this.#place(groupOf, 'groups');
    const errors = this.#take(BLOCK_COLUMNS * rows, 'errors');
    const levels = this.#take(Math.ceil(columns / 4) * rows, 'levels');
    const given = groups.kind === 'given' ? groups : null;
    const scales = given === null ? this.#take(groupCount * rows, 'scales') : this.#place(given.scales, 'scales');
    const zeros =
      given === null ? this.#take(groupCount * rows, 'zeros') : this.#place(Float32Array.from(given.zeros), 'zeros');
    const kernel = gpu.kernels.get('solver_sweep', {
      THREADS,
      RUNNING: groups.kind === 'running',
      SYMMETRIC: options.zeros === 'symmetric',
      MSE: options.clipping === 'mse',
    });
    const groupSize = groups.kind === 'running' ? groups.groupSize : 0;
    for (let begin = 0; begin < columns; begin += BLOCK_COLUMNS) {
      const count = Math.min(BLOCK_COLUMNS, columns - begin);
      const end = begin + count;
      const params = { rows, columns, stride, begin, count, groupSize, maxLevel: maxLevel(options) };
      const buffers = [w, lower, groupsAt, errors, levels, scales, zeros];
      gpu.dispatch(kernel, params, buffers, Math.ceil(rows / THREADS));
      // Columns behind the block: w[end.., rows] −= U[begin..end, end..]ᵀ · errors.
      const rest = { left: columns - end, right: rows, terms: count, leftStride: stride } as const;
      const at = { leftAt: end * stride + begin, outAt: end * rows } as const;
      this.#product({ a: lower, b: errors, c: w, ...rest, ...at, sign: -1, shape: 'whole', leftLayout: 'columns' });
    }
    const words = new Uint8Array(await gpu.read(levels, Math.ceil(columns / 4) * rows * 4));
    const swept = {
      levels: unpacked(words, rows, columns),
      scales: new Float32Array(await gpu.read(scales, groupCount * rows * 4)),
      zeros: Uint8Array.from(new Float32Array(await gpu.read(zeros, groupCount * rows * 4))),
    };
    for (const buffer of [w, groupsAt, errors, levels, scales, zeros]) gpu.pool.give(buffer);
    return swept;
  }

  /** A pass over the weights without products: the CPU's kernels are not what a run waits for. */
  grids(weight: Float32Array, columns: number, begin: number, end: number, options: SolverOptions) {
    return this.#cpu.grids(weight, columns, begin, end, options);
  }

  async energy(matrix: Float32Array, hessian: Float32Array, columns: number): Promise<number> {
    const gpu = this.#gpu;
    const rows = matrix.length / columns;
    const m = transposed(matrix, rows, columns);
    const [h, b] = [this.#place(hessian, 'a Hessian'), this.#place(m, 'a weight')];
    const product = this.#zeros(columns * rows, 'a product');
    const shape = { left: columns, right: rows, terms: columns, leftStride: columns, leftAt: 0, outAt: 0 } as const;
    this.#product({ a: h, b, c: product, ...shape, sign: 1, shape: 'whole', leftLayout: 'rows' });
    const values = new Float32Array(await gpu.read(product, 4 * columns * rows));
    for (const buffer of [h, b, product]) gpu.pool.give(buffer);
    return values.reduce((sum, value, i) => sum + value * m[i]!, 0);
  }

  async close(): Promise<void> {
    await this.#gpu.destroy();
    await this.#cpu.close();
  }

  #product({ a, b, c, shape, leftLayout, ...params }: Product): void {
    const defines = { UPPER: shape === 'upper', TRANSPOSED: leftLayout === 'columns' };
    const kernel = this.#gpu.kernels.get('solver_product', defines);
    this.#gpu.dispatch(kernel, params, [a, b, c], Math.ceil(params.right / TILE), Math.ceil(params.left / TILE));
  }

  /** Values of four bytes, with whatever was there. Throws `model_unsupported` when the adapter binds less. */
  #take(count: number, what: string): GPUBuffer {
    const { maxStorageBufferBindingSize: most } = this.#gpu.opened.limits;
    if (4 * count > most) {
      const reason = `${what} needs ${4 * count} bytes in one buffer; the adapter binds ${most}; use --backend wasm`;
      throw new NibbleError({ code: 'model_unsupported', file: 'webgpu', option: 'memory', reason });
    }
    return this.#gpu.pool.take(4 * count);
  }

  #place(values: Float32Array | Int32Array, what: string): GPUBuffer {
    const buffer = this.#take(values.length, what);
    // Collected work may still use what the pool gave back.
    this.#gpu.flush();
    const own = values.buffer instanceof ArrayBuffer ? values : values.slice();
    this.#gpu.write(buffer, 0, own as Float32Array<ArrayBuffer>);
    return buffer;
  }

  #zeros(count: number, what: string): GPUBuffer {
    return this.#place(new Float32Array(count), what);
  }
}

/** [rows, columns] → [columns, rows]. */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) result[column * rows + row] = values[row * columns + column]!;
  return result;
}

/** Bytes [ceil(columns / 4), rows, 4] → [rows, columns]. */
function unpacked(words: Uint8Array, rows: number, columns: number): Uint8Array {
  const levels = new Uint8Array(rows * columns);
  for (let column = 0; column < columns; column++) {
    const from = Math.floor(column / 4) * rows * 4 + (column % 4);
    for (let row = 0; row < rows; row++) levels[row * columns + column] = words[from + 4 * row]!;
  }
  return levels;
}
