/** Row ops: everything that treats each row of an activation alone. One function an op of the Backend, by the same name. */
import type { Activation, ActivationFunction, Linear, Vector } from '../core/model/backend.ts';
import { floatBits } from './kernels.ts';
import { expectSameShape, impossible, type WasmActivation } from './tensors.ts';
import { embeddingTable } from './weights.ts';
import type { Workspace } from './workspace.ts';

export function embed(space: Workspace, table: Linear, ids: Int32Array, scale: number): Activation {
  const own = embeddingTable(space.weight(table));
  const { outFeatures, inFeatures: cols } = own;
  space.batch();
  const outside = ids.find((id) => id < 0 || id >= outFeatures);
  if (outside !== undefined) throw impossible(`embed: row ${outside} of a table of ${outFeatures}`);
  const count = ids.length;
  const activation = space.activation(count, cols);
  const y = activation.address;
  const mark = space.memory.mark;
  const rows = space.placeInts(ids);
  if (own.kind === 'dense')
    space.team.run(`embed_${own.dtype}`, own.weights, rows, y, count, cols, own.stride, floatBits(scale));
  else {
    const { bits, q, scales, plan } = own;
    const { groupOctets, channels, groups, octets } = plan;
    const to = [rows, y, count, cols, groups, octets, floatBits(scale)] as const;
    space.team.run('embed_gptq', bits, q, scales, own.zeros ?? 0, groupOctets, channels ?? 0, ...to);
  }
  space.memory.release(mark);
  return activation;
}

export function rmsNorm(space: Workspace, x: Activation, weight: Vector, eps: number): Activation {
  const scale = space.vectorAddress(weight, 'weight', x.cols);
  const y = space.activation(x.rows, x.cols);
  space.team.run('rms_norm', space.addressOf(x), scale, y.address, x.rows, x.cols, floatBits(eps));
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
  const [to, from] = [space.addressOf(residual), space.addressOf(x)];
  const y = space.activation(x.rows, x.cols);
  space.team.run('add_rms_norm', to, from, scale, y.address, x.rows, x.cols, floatBits(eps));
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
  const shift = bias === null ? 0 : space.vectorAddress(bias, 'bias', x.cols);
  const from = space.addressOf(x);
  const y = space.activation(x.rows, x.cols);
  space.team.run('layer_norm', from, scale, shift, y.address, x.rows, x.cols, floatBits(eps));
  return y;
}

export function add(space: Workspace, residual: Activation, x: Activation): void {
  expectSameShape('add', residual, x);
  space.team.run('add', space.addressOf(residual), space.addressOf(x), x.rows * x.cols);
}

export function gated(space: Workspace, f: ActivationFunction, gate: Activation, up: Activation): Activation {
  expectSameShape('gated', gate, up);
  const [from, factor] = [space.addressOf(gate), space.addressOf(up)];
  const y = space.activation(gate.rows, gate.cols);
  space.team.run(`gated_${f}`, from, factor, y.address, gate.rows * gate.cols);
  return y;
}

/** The same into `gate` itself; `up` is freed. */
export function gatedInPlace(space: Workspace, f: ActivationFunction, gate: Activation, up: Activation): void {
  const to = space.addressOf(gate);
  space.team.run(`gated_${f}`, to, space.addressOf(up), to, gate.rows * gate.cols);
  space.free(up);
}

export function activate(space: Workspace, f: ActivationFunction, x: Activation): Activation {
  const from = space.addressOf(x);
  const y = space.activation(x.rows, x.cols);
  space.team.run(`gated_${f}`, from, 0, y.address, x.rows * x.cols);
  return y;
}

export function softcap(space: Workspace, x: Activation, cap: number): void {
  space.team.run('softcap', space.addressOf(x), x.rows * x.cols, floatBits(cap));
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
    space.team.run('copy_columns', from, y.address, x.rows, x.cols, cols, begin, to, count);
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
  space.team.run('gather_rows', from, space.placeInts(rows), y.address, rows.length, x.cols);
  space.memory.release(mark);
  return y;
}
