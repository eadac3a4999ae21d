/** Solver: the exports of nibble-solver.wasm, quantization's kernels. Pointers are byte addresses in its memory; shapes are in assembly/solver_*.ts. */
import { NibbleError } from '../core/errors.ts';

export interface SolverExports {
  pack_panels(x: number, panels: number, tokens: number, cols: number): void;
  syrk(panels: number, h: number, tokens: number, stride: number, first: number, step: number): void;
  factor(
    h: number,
    hStride: number,
    root: number,
    panels: number,
    l: number,
    cols: number,
    stride: number,
    damping: number,
  ): number;
  transpose_rows(rows: number, order: number, columns: number, cols: number, count: number): void;
  scatter_levels(levels: number, out: number, cols: number, count: number): void;
  grid_rows(
    w: number,
    count: number,
    scale: number,
    zero: number,
    levels: number,
    symmetric: boolean,
    mse: boolean,
  ): void;
  sweep(
    w: number,
    errors: number,
    applied: number,
    l: number,
    levels: number,
    scales: number,
    zeros: number,
    groupOf: number,
    cols: number,
    stride: number,
    groupSize: number,
    maxLevel: number,
    symmetric: boolean,
    mse: boolean,
  ): void;
  energy(m: number, h: number, cols: number, hStride: number): number;
}

/** `memory` is shared: several threads may hold an instance over it each. Throws `internal` when the module is not this kernel set. */
export function instantiateSolver(module: WebAssembly.Module, memory: WebAssembly.Memory): SolverExports {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  if (typeof exports.syrk !== 'function')
    throw new NibbleError({ code: 'internal', reason: 'the WebAssembly module is not the solver of Nibble' });
  return exports as unknown as SolverExports;
}
