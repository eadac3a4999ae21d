/** SolverOptions: what one layer's quantization is asked to do. */

export interface SolverOptions {
  bits: 2 | 3 | 4 | 8;
  /** Input channels per scale; null: one group over all of them. */
  groupSize: number | null;
  /** falling-activation: the channels with the strongest inputs first (act-order, desc_act). */
  columnOrder: 'natural' | 'falling-activation';
  /** running: a group's scales come from the weights as corrected when the sweep reaches it. static: from the weights before it, by channel. */
  groups: 'running' | 'static';
  zeros: 'symmetric' | 'asymmetric';
  /** mse: scales are shrunk where that loses less (AutoGPTQ's search). */
  clipping: 'none' | 'mse';
  /** Of the Hessian's mean diagonal, added to its diagonal; grows when the factorisation fails. */
  damping: number;
}

/** Columns between two lazy updates of the columns behind them; the scales of smaller groups do not see errors inside a block, as in AutoGPTQ. */
export const BLOCK_COLUMNS = 128;

export function maxLevel({ bits }: Pick<SolverOptions, 'bits'>): number {
  return 2 ** bits - 1;
}
