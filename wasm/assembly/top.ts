// top: of each row of logits, in segments of segmentCols columns, the `count` highest, the highest first and the lower id first among equals, and what the
// segment sums to. The last segment has the rest of the columns. wasm/top.ts puts a row's segments together.
//   logits        [rows, cols] f32
//   temperatures  [rows] f32; 0: as 1
//   ids           [rows, segments, count] i32; of a segment of fewer columns, only so many
//   values        [rows, segments, count] f32
//   totals        [rows, segments, 3] f64: the highest logit (NaN if any is), sum of exp(logit - highest), sum of exp((logit - highest) / temperature)
// 1 <= count <= cols. exp in f32 (exp.ts); sums in f64: lane j of 4 adds logits j, j + 4, ..., (l0 + l1) + (l2 + l3), then the last ones
// one by one. Split by pieces of segments. Reference: core/model/top-logits.ts.

import { exp4, expCall4 } from './exp';
import { maxLane } from './lanes';
import { firstPiece, nextPiece, NONE, pieceBegin, pieceEnd } from './pieces';

@inline function scaled(x: v128, highest: v128, temperature: v128, isOne: bool): v128 {
  const distance = f32x4.sub(x, highest);
  return isOne ? distance : f32x4.div(distance, temperature);
}

/** sum of exp((x - highest) / temperature) over x [cols]. */
function sumOfExp(x: usize, cols: i32, highest: f32, temperature: f32): f64 {
  const highest4 = f32x4.splat(highest), temperature4 = f32x4.splat(temperature), isOne = temperature == 1, end = x + (<usize>cols << 2), whole = x + (<usize>(cols & ~3) << 2);
  let low = f64x2.splat(0), high = low;
  for (; x < whole; x += 16) {
    const e = exp4(scaled(v128.load(x), highest4, temperature4, isOne));
    low = f64x2.add(low, f64x2.promote_low_f32x4(e));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i32>(e, e, 2, 3, 2, 3)));
  }
  let sum = (f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1)) + (f64x2.extract_lane(high, 0) + f64x2.extract_lane(high, 1));
  for (; x < end; x += 4) sum += <f64>f32x4.extract_lane(expCall4(scaled(v128.load32_splat(x), highest4, temperature4, isOne)), 0);
  return sum;
}

/** NaN if any is. */
function highestOf(x: usize, cols: i32): f32 {
  const end = x + (<usize>cols << 2), whole = x + (<usize>(cols & ~3) << 2);
  let highest4 = f32x4.splat(-Infinity);
  for (; x < whole; x += 16) highest4 = f32x4.max(highest4, v128.load(x));
  for (; x < end; x += 4) highest4 = f32x4.max(highest4, v128.load32_splat(x));
  return maxLane(highest4);
}

/** Puts (id, value) behind all of the `filled` that are as high; drops the last of `count`. Returns how many there are now. */
function insert(ids: usize, values: usize, filled: i32, count: i32, id: i32, value: f32): i32 {
  let at = <usize>(filled < count ? filled : count - 1) << 2;
  for (; at > 0 && value > load<f32>(values + at - 4); at -= 4) {
    store<f32>(values + at, load<f32>(values + at - 4));
    store<i32>(ids + at, load<i32>(ids + at - 4));
  }
  store<f32>(values + at, value);
  store<i32>(ids + at, id);
  return min(filled + 1, count);
}

/** The ids begin with `first`. */
function select(x: usize, first: i32, cols: i32, ids: usize, values: usize, count: i32): void {
  let filled = 0, id = 0;
  for (; id < count; id++) filled = insert(ids, values, filled, count, first + id, load<f32>(x + (<usize>id << 2)));
  const last = values + (<usize>(count - 1) << 2);
  while (id < cols) {
    if (id + 8 <= cols) {
      const lowest = v128.load32_splat(last), at = x + (<usize>id << 2);
      if (!v128.any_true(v128.or(f32x4.gt(v128.load(at), lowest), f32x4.gt(v128.load(at, 16), lowest)))) {
        id += 8;
        continue;
      }
    }
    for (const end = min(id + 8, cols); id < end; id++) {
      const value = load<f32>(x + (<usize>id << 2));
      if (value > load<f32>(last)) insert(ids, values, filled, count, first + id, value);
    }
  }
}

export function top(task: usize, part: i32, parts: i32): void {
  const logits = load<usize>(task), temperatures = load<usize>(task, 4), ids = load<usize>(task, 8), values = load<usize>(task, 12), totals = load<usize>(task, 16);
  const rows = load<i32>(task, 20), cols = load<i32>(task, 24), count = load<i32>(task, 28), segmentCols = load<i32>(task, 32), segments = (cols + segmentCols - 1) / segmentCols;
  for (let piece = firstPiece(task, rows * segments, 1, part, parts); piece != NONE; piece = nextPiece(task, 1, part, parts)) {
    for (let unit = pieceBegin(piece), end = pieceEnd(piece); unit < end; unit++) {
      const row = unit / segments, first = unit % segments * segmentCols, own = min(segmentCols, cols - first), temperature = load<f32>(temperatures + (<usize>row << 2));
      const x = logits + (<usize>row * cols + first << 2), highest = highestOf(x, own), place = <usize>unit * count << 2, total = totals + <usize>unit * 24;
      select(x, first, own, ids + place, values + place, min(count, own));
      const sum = sumOfExp(x, own, highest, 1);
      store<f64>(total, <f64>highest);
      store<f64>(total, sum, 8);
      store<f64>(total, temperature == 0 || temperature == 1 ? sum : sumOfExp(x, own, highest, temperature), 16);
    }
  }
}
