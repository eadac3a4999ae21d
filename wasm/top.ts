/** Top: the likeliest tokens, found by the kernels; only these leave their memory. */
import type { Activation, TopLogits } from '../core/model/backend.ts';
import { expectLength } from './tensors.ts';
import type { Workspace } from './workspace.ts';

export function top(space: Workspace, logits: Activation, wanted: number, temperatures: Float32Array): TopLogits {
  const { rows, cols } = logits;
  const count = Math.min(wanted, cols);
  expectLength('top', 'temperatures', temperatures.length, rows);
  const from = space.addressOf(logits);
  const { memory, team } = space;
  const mark = memory.mark;
  const placed = space.placeFloats(temperatures);
  const ids = memory.scratch(rows * count * 4);
  const values = memory.scratch(rows * count * 4);
  const totals = memory.scratch(rows * 24);
  if (count > 0) team.run('top', from, placed, ids, values, totals, rows, cols, count);
  team.settle();
  const result: TopLogits = {
    count,
    ids: memory.i32(ids, rows * count).slice(),
    logits: memory.f32(values, rows * count).slice(),
    logTotals: new Float32Array(rows),
    scaledLogTotals: new Float32Array(rows),
  };
  const sums = memory.f64(totals, rows * 3);
  for (let row = 0; row < rows; row++) {
    const [highest, sum, scaledSum] = [sums[row * 3]!, sums[row * 3 + 1]!, sums[row * 3 + 2]!];
    const temperature = temperatures[row]! === 0 ? 1 : temperatures[row]!;
    result.logTotals[row] = logTotal(highest, sum, 1);
    result.scaledLogTotals[row] = logTotal(highest, scaledSum, temperature);
  }
  memory.release(mark);
  return result;
}

/** `sum` is not a number where the highest is infinite: the highest is then the total. */
function logTotal(highest: number, sum: number, temperature: number): number {
  return Number.isFinite(highest) ? highest / temperature + Math.log(sum) : highest;
}
