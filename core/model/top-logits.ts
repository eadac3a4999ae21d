/** TopLogits by plain loops: the likeliest tokens of each row and the row's sum. The reference for kernels, and enough where logits are in memory. */
import type { TopLogits } from './backend.ts';

/** logits [rows, cols], temperatures [rows]. */
export function topLogits(
  logits: Float32Array,
  rows: number,
  cols: number,
  wanted: number,
  temperatures: Float32Array,
): TopLogits {
  const count = Math.min(wanted, cols);
  const top: TopLogits = {
    count,
    ids: new Int32Array(rows * count),
    logits: new Float32Array(rows * count),
    logTotals: new Float32Array(rows),
    scaledLogTotals: new Float32Array(rows),
  };
  for (let row = 0; row < rows; row++) {
    const own = logits.subarray(row * cols, (row + 1) * cols);
    likeliest(own, count).forEach((id, rank) => {
      top.ids[row * count + rank] = id;
      top.logits[row * count + rank] = own[id]!;
    });
    const temperature = temperatures[row]!;
    top.logTotals[row] = logTotal(own, 1);
    top.scaledLogTotals[row] = temperature === 0 ? top.logTotals[row]! : logTotal(own, temperature);
  }
  return top;
}

/** log Σ exp(logit / temperature) in f64; NaN when a logit is NaN, −∞ when all are. */
export function logTotal(row: Float32Array, temperature: number): number {
  let highest = -Infinity;
  for (const logit of row) highest = logit > highest ? logit : highest;
  if (!Number.isFinite(highest)) return row.some(Number.isNaN) ? Number.NaN : highest;
  let total = 0;
  for (let id = 0; id < row.length; id++) total += Math.exp((row[id]! - highest) / temperature);
  return highest / temperature + Math.log(total);
}

/** The `count` highest logits' ids, highest first, lower id first among equals. */
export function likeliest(logits: Float32Array, count: number): number[] {
  const order = (a: number, b: number) => logits[b]! - logits[a]! || a - b;
  if (count >= logits.length / 8) return Array.from(logits.keys()).sort(order).slice(0, count);
  // Few of many: a sorted window; most ids fail the first comparison.
  const best: number[] = [];
  let lowest = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (best.length === count && !(logit > lowest)) continue;
    let at = best.length;
    while (at > 0 && logit > logits[best[at - 1]!]!) at--;
    best.splice(at, 0, id);
    if (best.length > count) best.pop();
    lowest = logits[best[best.length - 1]!]!;
  }
  return best;
}
