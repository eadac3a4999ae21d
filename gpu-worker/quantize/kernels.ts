/** SolverKernels: the heavy parts of GPTQ, for one kernel set. reference-kernels.ts is the oracle, wasm-kernels.ts the fast one. */
import type { SolverOptions } from './solver-options.ts';

/** Upper triangular U [columns, columns] with UᵀU = (H + damping·I)⁻¹, wherever the kernel set keeps it. */
export interface Factor {
  readonly columns: number;
}

/** Groups by column of the sweep: found on the way, or given. */
export type SweepGroups =
  | { kind: 'running'; groupSize: number }
  /** groupOf [columns]; scales [groups, rows] f32, zeros [groups, rows]. */
  | { kind: 'given'; groupOf: Int32Array; scales: Float32Array; zeros: Uint8Array };

export interface Swept {
  /** [rows, columns] 0..2^bits − 1 */
  levels: Uint8Array;
  /** [groups, rows] f32 */
  scales: Float32Array;
  /** [groups, rows] */
  zeros: Uint8Array;
}

/** Σ x·xᵀ of the inputs that are added, in order. Sums are finished in the opposite order of their opening. */
export interface HessianSum {
  /** x [tokens, columns] */
  add(x: Float32Array): Promise<void>;
  /** [columns, columns], times factor. Frees the sum. */
  finish(factor: number): Promise<Float32Array>;
}

/** H = 2/N · Σ x·xᵀ over N sequences, of each sum. */
export async function finishAll(sums: readonly HessianSum[], sequences: number): Promise<Float32Array[]> {
  const hessians: Float32Array[] = [];
  for (const sum of sums.toReversed()) hessians.unshift(await sum.finish(2 / sequences));
  return hessians;
}

export interface SolverKernels {
  readonly name: string;
  hessian(columns: number): HessianSum;
  /** null when H + damping·I is not positive definite in this kernel set's precision. hessian [columns, columns]. */
  factor(hessian: Float32Array, columns: number, damping: number): Promise<Factor | null>;
  /** GPTQ's sweep over the columns of weight [rows, columns] f32, in the order in which they stand. */
  sweep(weight: Float32Array, factor: Factor, groups: SweepGroups, options: SolverOptions): Promise<Swept>;
  /** Scale and zero of each row over all of weight's columns [begin, end): scales, zeros [rows]. */
  grids(
    weight: Float32Array,
    columns: number,
    begin: number,
    end: number,
    options: SolverOptions,
  ): Promise<{ scales: Float32Array; zeros: Uint8Array }>;
  /** tr(M·H·Mᵀ) of matrix M [rows, columns] and hessian [columns, columns]. */
  energy(matrix: Float32Array, hessian: Float32Array, columns: number): Promise<number>;
  /** Factors are released in the opposite order of their making. */
  release(factor: Factor): void;
  close(): Promise<void>;
}
