/** Reference attention: rotation, and attention over paged keys and values, as plain loops with sums in f64. */
import type { AttentionOptions, Batch, KvShape, Rope } from './backend.ts';

/** keys and values: one [pages·pageTokens, kvHeads·headDim] f32 a layer. */
export interface ReferencePages {
  shape: KvShape;
  keys: Float32Array[];
  values: Float32Array[];
}

/** cos and sin [tokens, rotaryDim/2] */
export interface ReferenceRope extends Rope {
  cos: Float32Array;
  sin: Float32Array;
}

/** x [rows, heads·headDim] in place: channel i of a head turns with channel i + rotaryDim/2. */
export function rotate(
  x: Float32Array,
  { rows, cols }: { rows: number; cols: number },
  headDim: number,
  { cos, sin, rotaryDim }: ReferenceRope,
): void {
  const half = rotaryDim / 2;
  for (let row = 0; row < rows; row++)
    for (let head = 0; head < cols; head += headDim)
      for (let i = 0; i < half; i++) {
        const at = row * cols + head + i;
        const [a, b] = [x[at]!, x[at + half]!];
        const [c, s] = [cos[row * half + i]!, sin[row * half + i]!];
        x[at] = a * c - b * s;
        x[at + half] = b * c + a * s;
      }
}

/** q [tokens, cols = heads·headDim] → the same shape. */
export function attend(
  layer: number,
  q: Float32Array,
  cols: number,
  options: AttentionOptions,
  { shape, keys, values }: ReferencePages,
  { positions, sequenceOf, pageTables, maxPages }: Batch,
): Float32Array {
  const { heads, window } = options;
  const { headDim, kvHeads, pageTokens } = shape;
  const width = kvHeads * headDim;
  const y = new Float32Array(q.length);
  for (let row = 0; row < positions.length; row++) {
    const own = positions[row]!;
    const first = window === null ? 0 : Math.max(0, own - window + 1);
    const slotOf = (position: number) =>
      pageTables[sequenceOf[row]! * maxPages + Math.floor(position / pageTokens)]! * pageTokens +
      (position % pageTokens);
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor((head * kvHeads) / heads);
      const scores = new Float64Array(own + 1 - first);
      for (let position = first; position <= own; position++) {
        const base = slotOf(position) * width + kvHead * headDim;
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += q[row * cols + head * headDim + i]! * keys[layer]![base + i]!;
        scores[position - first] = scoreOf(dot, position - own, head, options);
      }
      const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const weights = scores.map((score) => Math.exp(score - highest));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let i = 0; i < headDim; i++) {
        let sum = 0;
        for (let position = first; position <= own; position++)
          sum += weights[position - first]! * values[layer]![slotOf(position) * width + kvHead * headDim + i]!;
        y[row * cols + head * headDim + i] = sum / total;
      }
    }
  }
  return y;
}

/** `distance`: key position − query position, at most 0. */
function scoreOf(dot: number, distance: number, head: number, options: AttentionOptions): number {
  const { scale, softcap, alibiSlopes } = options;
  const score = dot * scale;
  const capped = softcap === null ? score : softcap * Math.tanh(score / softcap);
  return capped + (alibiSlopes === null ? 0 : alibiSlopes[head]! * distance);
}
