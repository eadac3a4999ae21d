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

export interface SolverKernels {
  readonly name: string;
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
  release(factor: Factor): void;
}
