/** SolverNumbers: deterministic inputs for the solver's kernels, and what a sweep left of a weight. */
import type { Swept } from '../../../gpu-worker/quantize/kernels.ts';

/** Tokens of the sequences that make a Hessian: a panel and a bit, one, just under, several. */
export const HESSIAN_TOKENS = [130, 1, 127, 300];

/** Deterministic numbers around 0, some channels stronger than others. */
export function numbers(rows: number, columns: number, seed: number): Float32Array {
  let state = seed * 2654435761 + 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  return Float32Array.from(
    { length: rows * columns },
    (_, i) => (next() + next() + next()) * (1 + ((i % columns) % 7) / 3),
  );
}

/** weight [rows, columns] less what its levels stand for, in groups of `groupSize` columns. */
export function differenceOf(
  weight: Float32Array,
  columns: number,
  groupSize: number,
  { levels, scales, zeros }: Swept,
): Float32Array {
  const rows = weight.length / columns;
  return weight.map((value, i) => {
    const at = Math.floor((i % columns) / groupSize) * rows + Math.floor(i / columns);
    return value - scales[at]! * (levels[i]! - zeros[at]!);
  });
}
