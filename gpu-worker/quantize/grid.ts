/** Grid: the scale and zero point of each row's levels, from the values that are to be put on them. */
import { maxLevel, type SolverOptions } from './solver-options.ts';

export type GridOptions = Pick<SolverOptions, 'bits' | 'zeros' | 'clipping'>;

/** AutoGPTQ's search: shrinks of 1/100 down to 0.21, judged by Σ|error|^2.4. */
export const MSE_STEPS = 80;
export const MSE_GRID = 100;
export const MSE_POWER = 2.4;

export interface RowGrid {
  /** f32 */
  scale: number;
  /** 0..maxLevel; at least 1, because the layout "gptq" stores zero − 1 */
  zero: number;
}

/** Of one row's values; in f32 steps, as AutoGPTQ computes them. */
export function gridOf(values: Float64Array, options: GridOptions): RowGrid {
  let [low, high] = [0, 0];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const range = rangeOf(Math.fround(low), Math.fround(high), options);
  if (options.clipping === 'none') return rowGrid(range.low, range.high, options);
  let best = rowGrid(range.low, range.high, options);
  let bestError = Number.POSITIVE_INFINITY;
  for (let step = 0; step < MSE_STEPS; step++) {
    const shrink = 1 - step / MSE_GRID;
    const grid = rowGrid(Math.fround(shrink * range.low), Math.fround(shrink * range.high), options);
    let error = 0;
    for (const value of values) error += Math.abs(valueAt(levelOf(value, grid, options), grid) - value) ** MSE_POWER;
    if (error < bestError) [best, bestError] = [grid, error];
  }
  return best;
}

/** 0..maxLevel, ties to even; divided in f32, because the largest value of a symmetric group stands halfway between two levels and only f32 calls it a tie. */
export function levelOf(value: number, { scale, zero }: RowGrid, options: GridOptions): number {
  const level = roundHalfEven(Math.fround(Math.fround(value) / scale)) + zero;
  return Math.min(Math.max(level, 0), maxLevel(options));
}

export function valueAt(level: number, { scale, zero }: RowGrid): number {
  return scale * (level - zero);
}

/**
 * With zero inside. Symmetric ranges reach as far down as up, even where no value is negative: AutoGPTQ leaves low at 0 there and so
 * clips half of the range away.
 */
function rangeOf(low: number, high: number, { zeros }: GridOptions): { low: number; high: number } {
  if (low === 0 && high === 0) return { low: -1, high: 1 };
  if (zeros === 'asymmetric') return { low, high };
  const reach = Math.max(-low, high);
  return { low: -reach, high: reach };
}

function rowGrid(low: number, high: number, options: GridOptions): RowGrid {
  const levels = maxLevel(options);
  const scale = Math.fround(Math.fround(high - low) / levels);
  if (options.zeros === 'symmetric') return { scale, zero: (levels + 1) / 2 };
  const zero = roundHalfEven(Math.fround(-low / scale));
  // Layout "gptq" cannot store a zero point of 0: level 0 is given up instead of letting −1 run over its neighbours.
  return zero > 0 ? { scale, zero } : { scale: Math.fround(high / (levels - 1)), zero: 1 };
}

function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
