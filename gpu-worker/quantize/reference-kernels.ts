/** ReferenceKernels: GPTQ in plain loops and f64; what the fast kernels are compared with. */
import { gridOf, levelOf, valueAt } from './grid.ts';
import type { Factor, HessianSum, SolverKernels, SweepGroups, Swept } from './kernels.ts';
import { BLOCK_COLUMNS, type SolverOptions } from './solver-options.ts';

interface ReferenceFactor extends Factor {
  /** U [columns, columns] f64 */
  upper: Float64Array;
}

export class ReferenceKernels implements SolverKernels {
  readonly name = 'reference';

  hessian(columns: number): HessianSum {
    const sum = new Float64Array(columns * columns);
    return {
      async add(x) {
        for (let row = 0; row < x.length; row += columns)
          for (let i = 0; i < columns; i++)
            for (let j = 0; j < columns; j++) sum[i * columns + j]! += x[row + i]! * x[row + j]!;
      },
      finish: async (factor) => Float32Array.from(sum, (value) => value * factor),
    };
  }

  async factor(hessian: Float32Array, columns: number, damping: number): Promise<Factor | null> {
    const root = upperRoot(hessian, columns, damping);
    if (root === null) return null;
    const factor: ReferenceFactor = { columns, upper: invertUpper(root, columns) };
    return factor;
  }

  async sweep(weight: Float32Array, factor: Factor, groups: SweepGroups, options: SolverOptions): Promise<Swept> {
    return sweep(Float64Array.from(weight), factor as ReferenceFactor, groups, options);
  }

  async grids(weight: Float32Array, columns: number, begin: number, end: number, options: SolverOptions) {
    const rows = weight.length / columns;
    const scales = new Float32Array(rows);
    const zeros = new Uint8Array(rows);
    for (let row = 0; row < rows; row++) {
      const values = Float64Array.from(weight.subarray(row * columns + begin, row * columns + end));
      const grid = gridOf(values, options);
      scales[row] = grid.scale;
      zeros[row] = grid.zero;
    }
    return { scales, zeros };
  }

  async energy(matrix: Float32Array, hessian: Float32Array, columns: number): Promise<number> {
    let sum = 0;
    for (let row = 0; row < matrix.length; row += columns)
      for (let i = 0; i < columns; i++) {
        let dot = 0;
        for (let j = 0; j < columns; j++) dot += hessian[i * columns + j]! * matrix[row + j]!;
        sum += matrix[row + i]! * dot;
      }
    return sum;
  }

  release(): void {}

  async close(): Promise<void> {}
}

/**
 * R upper triangular with R·Rᵀ = H + damping·I, from the last column to the first: then U = R⁻¹ is the Cholesky factor of the inverse,
 * without forming the inverse. null when a pivot is not positive.
 */
function upperRoot(hessian: Float32Array, columns: number, damping: number): Float64Array | null {
  const root = new Float64Array(columns * columns);
  for (let j = columns - 1; j >= 0; j--)
    for (let i = j; i >= 0; i--) {
      let sum = hessian[i * columns + j]! + (i === j ? damping : 0);
      for (let k = j + 1; k < columns; k++) sum -= root[i * columns + k]! * root[j * columns + k]!;
      if (i === j && !(sum > 0)) return null;
      root[i * columns + j] = i === j ? Math.sqrt(sum) : sum / root[j * columns + j]!;
    }
  return root;
}

/** In place, from the last row to the first. */
function invertUpper(root: Float64Array, columns: number): Float64Array {
  const row = new Float64Array(columns);
  for (let i = columns - 1; i >= 0; i--) {
    const own = root.slice(i * columns, (i + 1) * columns);
    const pivot = own[i]!;
    row.fill(0);
    for (let k = i + 1; k < columns; k++) for (let j = k; j < columns; j++) row[j]! += own[k]! * root[k * columns + j]!;
    for (let j = i + 1; j < columns; j++) root[i * columns + j] = -row[j]! / pivot;
    root[i * columns + i] = 1 / pivot;
  }
  return root;
}

/** weight [rows, columns] is corrected in place. */
function sweep(
  weight: Float64Array,
  { columns, upper }: ReferenceFactor,
  groups: SweepGroups,
  options: SolverOptions,
): Swept {
  const rows = weight.length / columns;
  const groupCount = groups.kind === 'given' ? groups.scales.length / rows : Math.ceil(columns / groups.groupSize);
  const levels = new Uint8Array(rows * columns);
  const scales = groups.kind === 'given' ? groups.scales : new Float32Array(groupCount * rows);
  const zeros = groups.kind === 'given' ? groups.zeros : new Uint8Array(groupCount * rows);
  const block = new Float64Array(BLOCK_COLUMNS);
  const errors = new Float64Array(BLOCK_COLUMNS);
  for (let row = 0; row < rows; row++) {
    const own = weight.subarray(row * columns, (row + 1) * columns);
    for (let begin = 0; begin < columns; begin += BLOCK_COLUMNS) {
      const end = Math.min(begin + BLOCK_COLUMNS, columns);
      block.set(own.subarray(begin, end));
      for (let column = begin; column < end; column++) {
        if (groups.kind === 'running' && column % groups.groupSize === 0) {
          const grid = gridOf(own.subarray(column, Math.min(column + groups.groupSize, columns)), options);
          const at = (column / groups.groupSize) * rows + row;
          scales[at] = grid.scale;
          zeros[at] = grid.zero;
        }
        const group = groups.kind === 'given' ? groups.groupOf[column]! : Math.floor(column / groups.groupSize);
        const grid = { scale: scales[group * rows + row]!, zero: zeros[group * rows + row]! };
        const value = block[column - begin]!;
        const level = levelOf(value, grid, options);
        levels[row * columns + column] = level;
        const error = (value - valueAt(level, grid)) / upper[column * columns + column]!;
        errors[column - begin] = error;
        for (let k = column; k < end; k++) block[k - begin]! -= error * upper[column * columns + k]!;
      }
      for (let column = begin; column < end; column++)
        for (let k = end; k < columns; k++) own[k]! -= errors[column - begin]! * upper[column * columns + k]!;
    }
  }
  return { levels, scales, zeros };
}
