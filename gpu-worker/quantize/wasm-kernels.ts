/** WasmKernels: the solver on SIMD and threads. Results do not depend on how many threads there are. */
import { readFile } from 'node:fs/promises';
import { ensureWasmBuilt } from '../../scripts/build-wasm.ts';
import { expectNode } from '../../wasm/node.ts';
import type { Factor, HessianSum, SolverKernels, SweepGroups, Swept } from './kernels.ts';
import { panelStride, panelsOf } from './panels.ts';
import { SharedMemory } from './shared-memory.ts';
import { maxLevel, type SolverOptions } from './solver-options.ts';
import type { KernelCall } from './thread.ts';
import { Threads } from './threads.ts';

/** Rows that one call of a kernel takes. */
const ROWS = 16;

interface WasmFactor extends Factor {
  /** Address of l [stride, stride] f32 */
  l: number;
  stride: number;
}

interface WasmHessianSum extends HessianSum {
  /** [stride, stride] f32, upper triangle */
  address: number;
  stride: number;
}

export async function openWasmKernels(threads: number): Promise<WasmKernels> {
  expectNode(process.versions.node);
  const module = await WebAssembly.compile(await readFile(ensureWasmBuilt().solver));
  return new WasmKernels(module, threads);
}

export class WasmKernels implements SolverKernels {
  readonly name = 'wasm';
  readonly memory = new SharedMemory();
  readonly threads: Threads;

  constructor(module: WebAssembly.Module, threads: number) {
    this.threads = new Threads(threads, { module, memory: this.memory.memory });
  }

  /** Its block of memory stays until everything taken after it is released too. */
  hessian(columns: number): WasmHessianSum {
    const { memory, threads } = this;
    const stride = panelStride(columns);
    const address = memory.zeros(stride * stride * 4, 'a Hessian');
    return {
      address,
      stride,
      async add(x) {
        const mark = memory.mark;
        const tokens = x.length / columns;
        const raw = memory.take(x.byteLength, 'activations');
        memory.f32(raw, x.length).set(x);
        const panels = memory.take(stride * tokens * 4, 'activations');
        const blocks = panelsOf(tokens).map(([first, count]) => ({
          count,
          from: raw + first * columns * 4,
          to: panels + first * stride * 4,
        }));
        const packing = blocks.map(({ from, to, count }): KernelCall => ['pack_panels', from, to, count, columns]);
        await threads.run({ kind: 'kernels', calls: packing });
        await Promise.all(
          Array.from({ length: threads.count }, (_, thread) => {
            const calls = blocks.map(
              ({ to, count }): KernelCall => ['syrk', to, address, count, stride, thread, threads.count],
            );
            return threads.run({ kind: 'kernels', calls });
          }),
        );
        memory.release(mark);
      },
      async finish(factor) {
        const sum = memory.f32(address, stride * stride);
        const hessian = new Float32Array(columns * columns);
        for (let i = 0; i < columns; i++)
          for (let j = i; j < columns; j++) {
            const value = sum[i * stride + j]! * factor;
            hessian[i * columns + j] = value;
            hessian[j * columns + i] = value;
          }
        memory.release(address);
        return hessian;
      },
    };
  }

  /** The factor stays until `release`; factors are released in the opposite order. */
  async factor(hessian: Float32Array, columns: number, damping: number): Promise<Factor | null> {
    const { memory } = this;
    const stride = Math.ceil(columns / 4) * 4;
    const before = memory.mark;
    const l = memory.take(stride * stride * 4, 'a factored Hessian');
    const scratch = memory.mark;
    const h = this.#place(hessian, 'a Hessian');
    const root = memory.take(stride * stride * 8, 'a factorisation');
    const panels = memory.take(stride * stride * 8, 'a factorisation');
    const isPositive = await this.#call(['factor', h, columns, root, panels, l, columns, stride, damping]);
    memory.release(isPositive === 1 ? scratch : before);
    const factor: WasmFactor = { columns, l, stride };
    return isPositive === 1 ? factor : null;
  }

  /** A copy of [stride, stride] f32: row i holds U[0..i, i], then zeros. For kernel sets that sweep elsewhere. */
  lowerOf(factor: Factor): { values: Float32Array; stride: number } {
    const { l, stride } = factor as WasmFactor;
    return { values: this.memory.f32(l, stride * stride).slice(), stride };
  }

  release(factor: Factor): void {
    this.memory.release((factor as WasmFactor).l);
  }

  async sweep(weight: Float32Array, factor: Factor, groups: SweepGroups, options: SolverOptions): Promise<Swept> {
    const { memory } = this;
    const { columns, l, stride } = factor as WasmFactor;
    const rows = weight.length / columns;
    const groupSize = groups.kind === 'given' ? 0 : groups.groupSize;
    const groupCount = groups.kind === 'given' ? groups.scales.length / rows : Math.ceil(columns / groupSize);
    const mark = memory.mark;
    const w = this.#place(weight, 'a weight');
    const order = this.#order(columns);
    const levels = memory.take(rows * columns, 'levels');
    const groupOf = memory.take(columns * 4, 'groups');
    if (groups.kind === 'given') memory.i32(groupOf, columns).set(groups.groupOf);
    const chunks = Math.ceil(rows / ROWS);
    const gridBytes = groupCount * ROWS * 4;
    const scales = memory.take(chunks * gridBytes, 'scales');
    const zeros = memory.take(chunks * gridBytes, 'zeros');
    if (groups.kind === 'given') this.#scatterGrids(groups, rows, groupCount, scales, zeros);
    const perThread = columns * (ROWS * 4 * 2 + ROWS + 4) + 1024;
    await this.#chunks(rows, perThread, (chunk, count, scratch) => {
      const [columnsAt, errors, levelsAt, applied] = [
        scratch,
        scratch + columns * 64,
        scratch + columns * 128,
        scratch + columns * 144,
      ] as const;
      const at = chunk * gridBytes;
      const { bits, zeros: kind, clipping } = options;
      return [
        ['transpose_rows', w + chunk * ROWS * columns * 4, order, columnsAt, columns, count],
        [
          'sweep',
          columnsAt,
          errors,
          applied,
          l,
          levelsAt,
          scales + at,
          zeros + at,
          groupOf,
          columns,
          stride,
          groupSize,
          maxLevel({ bits }),
          kind === 'symmetric',
          clipping === 'mse',
        ],
        ['scatter_levels', levelsAt, levels + chunk * ROWS * columns, columns, count],
      ];
    });
    const swept = {
      levels: memory.u8(levels, rows * columns).slice(),
      ...this.#gatherGrids(rows, groupCount, scales, zeros),
    };
    memory.release(mark);
    return swept;
  }

  async grids(weight: Float32Array, columns: number, begin: number, end: number, options: SolverOptions) {
    const { memory } = this;
    const rows = weight.length / columns;
    const mark = memory.mark;
    const w = this.#place(weight, 'a weight');
    const order = this.#order(columns);
    const chunks = Math.ceil(rows / ROWS);
    const scales = memory.take(chunks * ROWS * 4, 'scales');
    const zeros = memory.take(chunks * ROWS * 4, 'zeros');
    const { zeros: kind, clipping } = options;
    await this.#chunks(rows, columns * 64, (chunk, count, scratch) => [
      ['transpose_rows', w + chunk * ROWS * columns * 4, order, scratch, columns, count],
      [
        'grid_rows',
        scratch + begin * 64,
        end - begin,
        scales + chunk * 64,
        zeros + chunk * 64,
        maxLevel(options),
        kind === 'symmetric',
        clipping === 'mse',
      ],
    ]);
    const grids = this.#gatherGrids(rows, 1, scales, zeros);
    memory.release(mark);
    return grids;
  }

  async energy(matrix: Float32Array, hessian: Float32Array, columns: number): Promise<number> {
    const { memory } = this;
    const rows = matrix.length / columns;
    const mark = memory.mark;
    const m = this.#place(matrix, 'a weight');
    const h = this.#place(hessian, 'a Hessian');
    const order = this.#order(columns);
    const sums = await this.#chunks<number>(rows, columns * 64, (chunk, count, scratch) => [
      ['transpose_rows', m + chunk * ROWS * columns * 4, order, scratch, columns, count],
      ['energy', scratch, h, columns, columns],
    ]);
    memory.release(mark);
    return sums.reduce((sum, value) => sum + value, 0);
  }

  close(): Promise<void> {
    return this.threads.close();
  }

  #call(call: KernelCall): Promise<number> {
    return this.threads.run<number>({ kind: 'kernels', calls: [call] });
  }

  /** The calls of every chunk of rows, each with one of as many scratch blocks as there are threads; results in order of chunks. */
  async #chunks<Result>(
    rows: number,
    scratchBytes: number,
    callsOf: (chunk: number, count: number, scratch: number) => KernelCall[],
  ): Promise<Result[]> {
    const { memory, threads } = this;
    const chunks = Math.ceil(rows / ROWS);
    const results: Result[] = new Array(chunks);
    const scratches = Array.from({ length: Math.min(threads.count, chunks) }, () =>
      memory.take(scratchBytes, 'rows being swept'),
    );
    let next = 0;
    await Promise.all(
      scratches.map(async (scratch) => {
        while (next < chunks) {
          const chunk = next++;
          const calls = callsOf(chunk, Math.min(ROWS, rows - chunk * ROWS), scratch);
          results[chunk] = await threads.run<Result>({ kind: 'kernels', calls });
        }
      }),
    );
    return results;
  }

  #place(values: Float32Array, what: string): number {
    const address = this.memory.take(values.byteLength, what);
    this.memory.f32(address, values.length).set(values);
    return address;
  }

  /** The columns as they stand. */
  #order(columns: number): number {
    const address = this.memory.take(columns * 4, 'an order of columns');
    const order = this.memory.i32(address, columns);
    for (let i = 0; i < columns; i++) order[i] = i;
    return address;
  }

  /** From [groups, rows] to [chunks, groups, 16]. */
  #scatterGrids(
    groups: { scales: Float32Array; zeros: Uint8Array },
    rows: number,
    groupCount: number,
    scales: number,
    zeros: number,
  ): void {
    const size = Math.ceil(rows / ROWS) * groupCount * ROWS;
    const [toScales, toZeros] = [this.memory.f32(scales, size).fill(1), this.memory.f32(zeros, size).fill(0)];
    for (let group = 0; group < groupCount; group++)
      for (let row = 0; row < rows; row++) {
        const at = (Math.floor(row / ROWS) * groupCount + group) * ROWS + (row % ROWS);
        toScales[at] = groups.scales[group * rows + row]!;
        toZeros[at] = groups.zeros[group * rows + row]!;
      }
  }

  /** The inverse of #scatterGrids. */
  #gatherGrids(rows: number, groupCount: number, scales: number, zeros: number) {
    const size = Math.ceil(rows / ROWS) * groupCount * ROWS;
    const [fromScales, fromZeros] = [this.memory.f32(scales, size), this.memory.f32(zeros, size)];
    const result = { scales: new Float32Array(groupCount * rows), zeros: new Uint8Array(groupCount * rows) };
    for (let group = 0; group < groupCount; group++)
      for (let row = 0; row < rows; row++) {
        const at = (Math.floor(row / ROWS) * groupCount + group) * ROWS + (row % ROWS);
        result.scales[group * rows + row] = fromScales[at]!;
        result.zeros[group * rows + row] = fromZeros[at]!;
      }
    return result;
  }
}
