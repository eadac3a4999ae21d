/** Top: each row's likeliest tokens and totals, found on the device; a few hundred bytes a row come back instead of all logits. */
import type { Activation, TopLogits } from '../../core/model/backend.ts';
import { foldGroups, type Space } from './row-ops.ts';

/** Values that one workgroup sorts: 8 KiB of workgroup memory, half of what every adapter has. */
const CHUNK = 1024;
const THREADS = 256;

export async function top(
  { gpu, activations }: Space,
  logits: Activation,
  wanted: number,
  temperatures: Float32Array,
): Promise<TopLogits> {
  const { rows, cols } = logits;
  const source = activations.bufferOf(logits);
  const totals = activations.scratch(16 * rows);
  const totalsKernel = gpu.kernels.get('top_totals', { THREADS });
  gpu.dispatch(totalsKernel, { rows, cols }, [source, activations.upload(temperatures), totals], ...foldGroups(rows));

  const count = Math.min(wanted, cols);
  let from: { values: GPUBuffer; ids: GPUBuffer | null; cols: number } = { values: source, ids: null, cols };
  do {
    const chunks = Math.ceil(from.cols / CHUNK);
    const values = activations.scratch(4 * rows * chunks * count);
    const ids = activations.scratch(4 * rows * chunks * count);
    const kernel = gpu.kernels.get('top_candidates', { THREADS, CHUNK, FIRST: from.ids === null });
    const buffers = [from.values, values, ids, ...(from.ids === null ? [] : [from.ids])];
    gpu.dispatch(kernel, { rows, cols: from.cols, chunks, kept: count }, buffers, chunks, rows);
    from = { values, ids, cols: chunks * count };
  } while (from.cols > count);

  const result = activations.scratch(4 * rows * (4 + 2 * count));
  gpu.copy(totals, 0, result, 0, 16 * rows);
  gpu.copy(from.values, 0, result, 16 * rows, 4 * rows * count);
  gpu.copy(from.ids!, 0, result, 4 * rows * (4 + count), 4 * rows * count);
  const bytes = await gpu.read(result, 4 * rows * (4 + 2 * count));
  return unpack(new Float32Array(bytes), rows, count, temperatures);
}

/** [rows, 4] totals, then [rows, count] logits, then [rows, count] ids. */
function unpack(words: Float32Array, rows: number, count: number, temperatures: Float32Array): TopLogits {
  const logTotals = new Float32Array(rows);
  const scaledLogTotals = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const [maximum, total, scaled, broken] = words.subarray(4 * row, 4 * row + 4) as unknown as Totals;
    const temperature = temperatures[row]!;
    const lowest = maximum < -3e38;
    logTotals[row] = broken > 0 ? Number.NaN : lowest ? -Infinity : maximum + Math.log(total);
    scaledLogTotals[row] = temperature === 0 ? logTotals[row]! : maximum / temperature + Math.log(scaled);
  }
  const logits = words.slice(4 * rows, (4 + count) * rows).map((logit) => (logit < -3e38 ? -Infinity : logit));
  const ids = new Int32Array(words.buffer, 4 * (4 + count) * rows, rows * count).slice();
  return { count, ids, logits, logTotals, scaledLogTotals };
}

type Totals = [maximum: number, total: number, scaled: number, broken: number];
