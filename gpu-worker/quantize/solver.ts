/** Solver: GPTQ of one linear: its weight and the Hessian of its inputs to integers, scales and zero points. */
import { NibbleError } from '../../core/errors.ts';
import { packGptq } from '../../core/formats/gptq-packing.ts';
import { f16ToF32Array, f32ToF16Array } from '../../core/formats/half.ts';
import type { GptqWeight } from '../../core/model/backend.ts';
import type { Factor, SolverKernels, SweepGroups, Swept } from './kernels.ts';
import type { SolverOptions } from './solver-options.ts';

/** Damping grows by this factor when the factorisation fails, until it reaches the diagonal itself. */
const DAMPING_GROWTH = 2;
const MAX_DAMPING = 1;

/** A linear to quantize: weight [rows, columns] f32; bias [rows]. */
export interface LinearProblem {
  /** For errors. */
  file: string;
  label: string;
  rows: number;
  columns: number;
  weight: Float32Array;
  bias: Float32Array | null;
}

export interface Solution {
  weight: GptqWeight;
  /** The damping that the factorisation took, of the mean diagonal. */
  damping: number;
  /** tr((W−Ŵ)H(W−Ŵ)ᵀ), with Ŵ as a reader dequantises it. */
  squaredError: number;
  /** √ of that over tr(WHWᵀ): how far the outputs on the calibration data are off. */
  relativeError: number;
}

/** A Hessian made ready: dead columns set, the order of columns chosen, factored. Serves every linear of the same inputs. */
export interface Prepared {
  readonly hessian: Float32Array;
  readonly columns: number;
  /** Columns that no input ever reached. */
  readonly dead: readonly number[];
  /** [columns] column of the weight that stands i-th in the sweep */
  readonly order: Int32Array;
  readonly factor: Factor;
  readonly damping: number;
}

/** Throws `file_invalid` by `label` when the Hessian holds no finite numbers or cannot be factored at any damping. */
export async function prepareHessian(
  kernels: SolverKernels,
  hessian: Float32Array,
  columns: number,
  options: SolverOptions,
  { file, label }: { file: string; label: string },
): Promise<Prepared> {
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: label, rule });
  const dead: number[] = [];
  const diagonal = new Float64Array(columns);
  for (let k = 0; k < columns; k++) {
    const value = hessian[k * columns + k]!;
    if (!Number.isFinite(value)) throw invalid(`its input channel ${k} is not finite on the calibration data`);
    if (value === 0) dead.push(k);
    diagonal[k] = value === 0 ? 1 : value;
  }
  const order = Int32Array.from(diagonal.keys());
  if (options.columnOrder === 'falling-activation') order.sort((a, b) => diagonal[b]! - diagonal[a]! || a - b);
  const ordered = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++)
    for (let j = 0; j < columns; j++) ordered[i * columns + j] = hessian[order[i]! * columns + order[j]!]!;
  for (let i = 0; i < columns; i++) ordered[i * columns + i] = diagonal[order[i]!]!;
  const mean = diagonal.reduce((sum, value) => sum + value, 0) / columns;
  for (let damping = options.damping; ; damping = Math.min(MAX_DAMPING, damping * DAMPING_GROWTH)) {
    const factor = await kernels.factor(ordered, columns, damping * mean);
    if (factor !== null) return { hessian, columns, dead, order, factor, damping };
    if (damping >= MAX_DAMPING)
      throw invalid(`the Hessian of its inputs cannot be factored, even at damping ${damping}`);
  }
}

/** Throws `file_invalid` when a weight is not finite or a scale is beyond f16. */
export async function solveLinear(
  kernels: SolverKernels,
  problem: LinearProblem,
  prepared: Prepared,
  options: SolverOptions,
): Promise<Solution> {
  const { columns, weight, label, file } = problem;
  const broken = weight.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0)
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: label,
      rule: `holds ${weight[broken]} at ${broken}, which cannot be quantized`,
    });
  const given = await givenGroups(kernels, problem, prepared, options);
  const alive = withoutDead(weight, prepared);
  const groupSize = Math.min(options.groupSize ?? columns, columns);
  const groups: SweepGroups = given ?? { kind: 'running', groupSize };
  const swept = await kernels.sweep(inOrder(alive, prepared), prepared.factor, groups, options);
  const gIdx = new Int32Array(columns);
  prepared.order.forEach((column, i) => {
    gIdx[column] = groups.kind === 'given' ? groups.groupOf[i]! : Math.floor(i / groupSize);
  });
  const packed = pack(problem, swept, prepared.order, groupSize, gIdx, options);
  const error = await measure(kernels, problem, swept, prepared, packed, gIdx);
  return { weight: packed, damping: prepared.damping, ...error };
}

/** Scales that do not depend on the sweep: static groups, and one group over all columns, whose scale AutoGPTQ takes from the weight as it was. */
async function givenGroups(
  kernels: SolverKernels,
  { rows, columns, weight }: LinearProblem,
  prepared: Prepared,
  options: SolverOptions,
): Promise<SweepGroups | null> {
  const groupSize = Math.min(options.groupSize ?? columns, columns);
  if (options.groupSize === null) {
    const { scales, zeros } = await kernels.grids(weight, columns, 0, columns, options);
    return { kind: 'given', groupOf: new Int32Array(columns), scales, zeros };
  }
  if (options.groups === 'running') return null;
  const alive = withoutDead(weight, prepared);
  const groupCount = Math.ceil(columns / groupSize);
  const scales = new Float32Array(groupCount * rows);
  const zeros = new Uint8Array(groupCount * rows);
  for (let group = 0; group < groupCount; group++) {
    const end = Math.min((group + 1) * groupSize, columns);
    const grids = await kernels.grids(alive, columns, group * groupSize, end, options);
    scales.set(grids.scales, group * rows);
    zeros.set(grids.zeros, group * rows);
  }
  const groupOf = prepared.order.map((column) => Math.floor(column / groupSize));
  return { kind: 'given', groupOf, scales, zeros };
}

function withoutDead(weight: Float32Array, { dead, columns }: Prepared): Float32Array {
  if (dead.length === 0) return weight;
  const alive = weight.slice();
  for (let row = 0; row < alive.length; row += columns) for (const column of dead) alive[row + column] = 0;
  return alive;
}

function inOrder(weight: Float32Array, { order, columns }: Prepared): Float32Array {
  const ordered = new Float32Array(weight.length);
  for (let row = 0; row < weight.length; row += columns)
    for (let i = 0; i < columns; i++) ordered[row + i] = weight[row + order[i]!]!;
  return ordered;
}

function pack(
  { rows, columns, bias, label, file }: LinearProblem,
  { levels, scales, zeros }: Swept,
  order: Int32Array,
  groupSize: number,
  gIdx: Int32Array,
  { bits }: SolverOptions,
): GptqWeight {
  const halves = f32ToF16Array(scales);
  const beyond = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
  if (beyond >= 0)
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: label,
      rule: `would need a scale of ${scales[beyond]}, which is beyond f16`,
    });
  const quantized = new Uint8Array(columns * rows);
  for (let i = 0; i < columns; i++) {
    const to = order[i]! * rows;
    for (let row = 0; row < rows; row++) quantized[to + row] = levels[row * columns + i]!;
  }
  const plain = gIdx.every((group, k) => group === Math.floor(k / groupSize));
  return packGptq(
    { quantized, zeros },
    {
      outFeatures: rows,
      inFeatures: columns,
      bits,
      groupSize,
      zeroOffset: 1,
      scales: halves,
      gIdx: plain ? null : gIdx,
      bias,
    },
  );
}

async function measure(
  kernels: SolverKernels,
  { rows, columns, weight }: LinearProblem,
  { levels, zeros }: Swept,
  { hessian, order }: Prepared,
  packed: GptqWeight,
  gIdx: Int32Array,
): Promise<{ squaredError: number; relativeError: number }> {
  const scales = f16ToF32Array(packed.scales);
  const difference = new Float32Array(rows * columns);
  for (let i = 0; i < columns; i++) {
    const column = order[i]!;
    const group = gIdx[column]! * rows;
    for (let row = 0; row < rows; row++) {
      const at = row * columns + column;
      difference[at] = weight[at]! - scales[group + row]! * (levels[row * columns + i]! - zeros[group + row]!);
    }
  }
  const squaredError = await kernels.energy(difference, hessian, columns);
  const whole = await kernels.energy(weight, hessian, columns);
  return { squaredError, relativeError: whole > 0 ? Math.sqrt(Math.max(0, squaredError) / whole) : 0 };
}
