/** Top: the likeliest tokens, found by the kernels segment by segment; only these leave their memory. */
import type { Activation, TopLogits } from '../core/model/backend.ts';
import { expectLength } from './tensors.ts';
import type { Workspace } from './workspace.ts';

/** Columns of a segment. Few segments, for each has its own list of the highest. */
const SEGMENT = 8192;

/** One row as the kernel leaves it: of each segment its `count` highest, best first, and [highest, sum, scaled sum]. */
interface RowSegments {
  cols: number;
  count: number;
  ids: Int32Array;
  values: Float32Array;
  totals: Float64Array;
}

export function top(space: Workspace, logits: Activation, wanted: number, temperatures: Float32Array): TopLogits {
  const { rows, cols } = logits;
  const count = Math.min(wanted, cols);
  expectLength('top', 'temperatures', temperatures.length, rows);
  const segments = Math.ceil(cols / SEGMENT);
  const from = space.addressOf(logits);
  const { memory, team } = space;
  const mark = memory.mark;
  const placed = space.placeFloats(temperatures);
  const ids = memory.scratch(rows * segments * count * 4);
  const values = memory.scratch(rows * segments * count * 4);
  const totals = memory.scratch(rows * segments * 24);
  if (count > 0) team.run('top', from, placed, ids, values, totals, rows, cols, count, SEGMENT);
  team.settle();
  const result: TopLogits = {
    count,
    ids: new Int32Array(rows * count),
    logits: new Float32Array(rows * count),
    logTotals: new Float32Array(rows),
    scaledLogTotals: new Float32Array(rows),
  };
  for (let row = 0; row < rows; row++) {
    const [first, length] = [row * segments * count * 4, segments * count];
    const own: RowSegments = {
      cols,
      count,
      ids: memory.i32(ids + first, length),
      values: memory.f32(values + first, length),
      totals: memory.f64(totals + row * segments * 24, segments * 3),
    };
    mergeHighest(own, result.ids.subarray(row * count), result.logits.subarray(row * count));
    const temperature = temperatures[row]! === 0 ? 1 : temperatures[row]!;
    result.logTotals[row] = logTotal(own.totals, 1, 1);
    result.scaledLogTotals[row] = logTotal(own.totals, 2, temperature);
  }
  memory.release(mark);
  return result;
}

/** The row's `count` highest into ids and logits; among equals an earlier segment has the lower ids. */
function mergeHighest({ cols, count, ids, values }: RowSegments, idsTo: Int32Array, logitsTo: Float32Array): void {
  const segments = Math.ceil(cols / SEGMENT);
  const next = Array.from({ length: segments }, (_, segment) => segment * count);
  const ends = next.map((first, segment) => first + Math.min(count, cols - segment * SEGMENT, SEGMENT));
  for (let rank = 0; rank < count; rank++) {
    let best = -1;
    for (let segment = 0; segment < segments; segment++) {
      if (next[segment]! === ends[segment]!) continue;
      if (best < 0 || values[next[segment]!]! > values[next[best]!]!) best = segment;
    }
    const place = next[best]!++;
    idsTo[rank] = ids[place]!;
    logitsTo[rank] = values[place]!;
  }
}

/** totals [segments, 3]; `sum` says which of the sums. The highest is the total where it is infinite, and NaN where any logit is. */
function logTotal(totals: Float64Array, sum: number, temperature: number): number {
  let highest = Number.NEGATIVE_INFINITY;
  for (let at = 0; at < totals.length; at += 3) highest = Math.max(highest, totals[at]!);
  if (!Number.isFinite(highest)) return highest / temperature;
  let total = 0;
  for (let at = 0; at < totals.length; at += 3)
    if (totals[at]! > Number.NEGATIVE_INFINITY)
      total += totals[at + sum]! * Math.exp((totals[at]! - highest) / temperature);
  return highest / temperature + Math.log(total);
}
