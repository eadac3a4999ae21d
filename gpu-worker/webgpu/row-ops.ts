/** Row ops: everything that treats each row or each value of an activation alone. One function an op of the Backend, by the same name. */
import type { Activation, ActivationFunction, Vector } from '../../core/model/backend.ts';
import { type Activations, expectShape, impossible, vectorBuffer } from './activations.ts';
import type { Gpu } from './gpu.ts';

export interface Space {
  gpu: Gpu;
  activations: Activations;
}

/** Threads of every elementwise kernel. */
const THREADS = 256;

/** Workgroups for `count` values, folded into two dimensions; kernels read their place from both. */
export function foldGroups(groups: number): [number, number] {
  const x = Math.min(groups, 32768);
  return [x, Math.ceil(groups / x)];
}

export function rmsNorm(space: Space, x: Activation, weight: Vector, eps: number): Activation {
  const { gpu, activations } = space;
  const y = activations.make(x.rows, x.cols);
  const buffers = [activations.bufferOf(x), vectorBuffer(weight, 'rmsNorm: the weight', x.cols), y.buffer];
  const kernel = gpu.kernels.get('rms_norm', { THREADS, RESIDUAL: false });
  gpu.dispatch(kernel, { rows: x.rows, cols: x.cols, eps }, buffers, ...foldGroups(x.rows));
  return y;
}

export function addRmsNorm(space: Space, residual: Activation, x: Activation, weight: Vector, eps: number): Activation {
  const { gpu, activations } = space;
  expectShape('addRmsNorm: x', x, residual.rows, residual.cols);
  const y = activations.make(x.rows, x.cols);
  const buffers = [
    activations.bufferOf(x),
    vectorBuffer(weight, 'addRmsNorm: the weight', x.cols),
    y.buffer,
    activations.bufferOf(residual),
  ];
  const kernel = gpu.kernels.get('rms_norm', { THREADS, RESIDUAL: true });
  gpu.dispatch(kernel, { rows: x.rows, cols: x.cols, eps }, buffers, ...foldGroups(x.rows));
  return y;
}

export function layerNorm(space: Space, x: Activation, weight: Vector, bias: Vector | null, eps: number): Activation {
  const { gpu, activations } = space;
  const y = activations.make(x.rows, x.cols);
  const buffers = [activations.bufferOf(x), vectorBuffer(weight, 'layerNorm: the weight', x.cols), y.buffer];
  if (bias !== null) buffers.push(vectorBuffer(bias, 'layerNorm: the bias', x.cols));
  const kernel = gpu.kernels.get('layer_norm', { THREADS, BIAS: bias !== null });
  gpu.dispatch(kernel, { rows: x.rows, cols: x.cols, eps }, buffers, ...foldGroups(x.rows));
  return y;
}

export function add(space: Space, residual: Activation, x: Activation): void {
  const { gpu, activations } = space;
  expectShape('add: x', x, residual.rows, residual.cols);
  const count = x.rows * x.cols;
  const buffers = [activations.bufferOf(x), activations.bufferOf(residual)];
  gpu.dispatch(gpu.kernels.get('add', { THREADS }), { count }, buffers, ...foldGroups(Math.ceil(count / THREADS)));
}

/** The number by which activation.wgsl knows a function. */
export const FUNCTION_CODES = { relu: 0, gelu: 1, gelu_tanh: 2, silu: 3 } as const satisfies Record<
  ActivationFunction,
  number
>;

export function activate(space: Space, f: ActivationFunction, x: Activation): Activation {
  const { gpu, activations } = space;
  const y = activations.make(x.rows, x.cols);
  const count = x.rows * x.cols;
  const kernel = gpu.kernels.get('activate', { THREADS, FUNCTION: FUNCTION_CODES[f], GATED: false });
  gpu.dispatch(kernel, { count }, [activations.bufferOf(x), y.buffer], ...foldGroups(Math.ceil(count / THREADS)));
  return y;
}

export function gated(space: Space, f: ActivationFunction, gate: Activation, up: Activation): Activation {
  const { gpu, activations } = space;
  expectShape('gated: up', up, gate.rows, gate.cols);
  const y = activations.make(gate.rows, gate.cols);
  const count = gate.rows * gate.cols;
  const kernel = gpu.kernels.get('activate', { THREADS, FUNCTION: FUNCTION_CODES[f], GATED: true });
  const buffers = [activations.bufferOf(gate), y.buffer, activations.bufferOf(up)];
  gpu.dispatch(kernel, { count }, buffers, ...foldGroups(Math.ceil(count / THREADS)));
  return y;
}

export function softcap(space: Space, x: Activation, softcap: number): void {
  const { gpu, activations } = space;
  const count = x.rows * x.cols;
  const kernel = gpu.kernels.get('softcap', { THREADS });
  gpu.dispatch(kernel, { count, softcap }, [activations.bufferOf(x)], ...foldGroups(Math.ceil(count / THREADS)));
}

export function columns(space: Space, x: Activation, ranges: readonly { begin: number; count: number }[]): Activation {
  const { gpu, activations } = space;
  const cols = ranges.reduce((sum, { count }) => sum + count, 0);
  const y = activations.make(x.rows, cols);
  const from = new Uint32Array(cols);
  let at = 0;
  for (const { begin, count } of ranges) {
    if (begin < 0 || begin + count > x.cols) throw impossible(`columns ${begin}..${begin + count} of ${x.cols}`);
    for (let i = 0; i < count; i++) from[at++] = begin + i;
  }
  const count = x.rows * cols;
  const buffers = [activations.bufferOf(x), activations.upload(from), y.buffer];
  const kernel = gpu.kernels.get('gather_columns', { THREADS });
  gpu.dispatch(kernel, { count, xCols: x.cols, yCols: cols }, buffers, ...foldGroups(Math.ceil(count / THREADS)));
  return y;
}

export function gatherRows(space: Space, x: Activation, rows: Int32Array): Activation {
  const { gpu, activations } = space;
  const outside = rows.find((row) => row < 0 || row >= x.rows);
  if (outside !== undefined) throw impossible(`gatherRows: row ${outside} of ${x.rows}`);
  const y = activations.make(rows.length, x.cols);
  const count = rows.length * x.cols;
  const buffers = [activations.bufferOf(x), activations.upload(rows), y.buffer];
  const kernel = gpu.kernels.get('gather_rows', { THREADS });
  gpu.dispatch(kernel, { count, cols: x.cols }, buffers, ...foldGroups(Math.ceil(count / THREADS)));
  return y;
}
