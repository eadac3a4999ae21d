/** Row ops: everything that treats each row of an activation alone. One function an op of the Backend, by the same name. */
import type { Activation, ActivationFunction, Linear, Vector } from '../core/model/backend.ts';
import { embedGptq } from './embed-gptq.ts';
import { expectSameShape, impossible, type WasmActivation } from './tensors.ts';
import { denseTable } from './weights.ts';
import type { Workspace } from './workspace.ts';

export function embed(space: Workspace, table: Linear, ids: Int32Array, scale: number): Activation {
  const weight = space.weight(table);
  const { outFeatures, inFeatures } = weight;
  space.batch();
  const outside = ids.find((id) => id < 0 || id >= outFeatures);
  if (outside !== undefined) throw impossible(`embed: row ${outside} of a table of ${outFeatures}`);
  const y = space.activation(ids.length, inFeatures);
  if (weight.kind === 'gptq') {
    embedGptq(space, weight, ids, scale, y.address);
    return y;
  }
  const { weights, dtype, stride } = denseTable(weight);
  const mark = space.memory.mark;
  const kernel = dtype === 'f16' ? space.kernels.embed_f16 : space.kernels.embed_f32;
  kernel(weights, space.placeInts(ids), y.address, ids.length, inFeatures, stride, scale);
  space.memory.release(mark);
  return y;
}

export function rmsNorm(space: Workspace, x: Activation, weight: Vector, eps: number): Activation {
  const scale = space.vectorAddress(weight, 'weight', x.cols);
  const y = space.activation(x.rows, x.cols);
  space.kernels.rms_norm(space.addressOf(x), scale, y.address, x.rows, x.cols, eps);
  return y;
}

export function addRmsNorm(
  space: Workspace,
  residual: Activation,
  x: Activation,
  weight: Vector,
  eps: number,
): Activation {
  expectSameShape('addRmsNorm', residual, x);
  const scale = space.vectorAddress(weight, 'weight', x.cols);
  const y = space.activation(x.rows, x.cols);
  space.kernels.add_rms_norm(space.addressOf(residual), space.addressOf(x), scale, y.address, x.rows, x.cols, eps);
  return y;
}

export function layerNorm(
  space: Workspace,
  x: Activation,
  weight: Vector,
  bias: Vector | null,
  eps: number,
): Activation {
  const scale = space.vectorAddress(weight, 'weight', x.cols);
  const shift = bias === null ? null : space.vectorAddress(bias, 'bias', x.cols);
  const from = space.addressOf(x);
  const y = space.activation(x.rows, x.cols);
  if (shift === null) space.kernels.layer_norm(from, scale, y.address, x.rows, x.cols, eps);
  else space.kernels.layer_norm_bias(from, scale, shift, y.address, x.rows, x.cols, eps);
  return y;
}

export function add(space: Workspace, residual: Activation, x: Activation): void {
  expectSameShape('add', residual, x);
  space.kernels.add(space.addressOf(residual), space.addressOf(x), x.rows * x.cols);
}

export function gated(space: Workspace, f: ActivationFunction, gate: Activation, up: Activation): Activation {
  expectSameShape('gated', gate, up);
  const [from, factor] = [space.addressOf(gate), space.addressOf(up)];
  const y = space.activation(gate.rows, gate.cols);
  space.kernels[`gated_${f}`](from, factor, y.address, gate.rows * gate.cols);
  return y;
}

export function activate(space: Workspace, f: ActivationFunction, x: Activation): Activation {
  const from = space.addressOf(x);
  const y = space.activation(x.rows, x.cols);
  space.kernels[`activate_${f}`](from, y.address, x.rows * x.cols);
  return y;
}

export function columns(
  space: Workspace,
  x: Activation,
  ranges: readonly { begin: number; count: number }[],
): Activation {
  const outside = ranges.find(({ begin, count }) => begin < 0 || count < 0 || begin + count > x.cols);
  if (outside !== undefined) throw impossible(`columns: ${outside.count} from ${outside.begin} of a row of ${x.cols}`);
  const from = space.addressOf(x);
  const cols = ranges.reduce((sum, { count }) => sum + count, 0);
  const y = space.activation(x.rows, cols);
  let to = 0;
  for (const { begin, count } of ranges) {
    space.kernels.copy_columns(from, y.address, x.rows, x.cols, cols, begin, to, count);
    to += count;
  }
  return y;
}

export function reshape(space: Workspace, x: Activation, rows: number, cols: number): Activation {
  space.addressOf(x);
  if (rows * cols !== x.rows * x.cols) throw impossible(`reshape: [${x.rows}, ${x.cols}] as [${rows}, ${cols}]`);
  const view: WasmActivation = { ...(x as WasmActivation), rows, cols };
  return view;
}

export function gatherRows(space: Workspace, x: Activation, rows: Int32Array): Activation {
  const outside = rows.find((row) => row < 0 || row >= x.rows);
  if (outside !== undefined) throw impossible(`gatherRows: row ${outside} of ${x.rows}`);
  const from = space.addressOf(x);
  const y = space.activation(rows.length, x.cols);
  const mark = space.memory.mark;
  space.kernels.gather_rows(from, space.placeInts(rows), y.address, rows.length, x.cols);
  space.memory.release(mark);
  return y;
}
