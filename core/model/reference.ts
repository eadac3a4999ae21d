/** Reference: the Backend as plain loops, sums in f64. The oracle that every kernel is compared with; slow on purpose. */
import { NibbleError } from '../errors.ts';
import { floatsOf } from '../formats/floats.ts';
import { dequantizeGptq } from '../formats/gptq.ts';
import type {
  Activation,
  AttentionOptions,
  Backend,
  Batch,
  KvShape,
  Linear,
  LinearWeight,
  Rope,
  Vector,
} from './backend.ts';

interface ReferenceLinear extends Linear {
  /** [out, in] */
  values: Float32Array;
  bias: Float32Array | null;
}
interface ReferenceActivation extends Activation {
  /** [rows, cols] */
  values: Float32Array;
}
interface ReferenceVector extends Vector {
  values: Float32Array;
}
interface ReferenceRope extends Rope {
  cos: Float32Array;
  sin: Float32Array;
}
/** keys and values: one [pages·pageTokens, kvHeads·headDim] f32 a layer. */
interface ReferencePages {
  shape: KvShape;
  keys: Float32Array[];
  values: Float32Array[];
}

const valuesOf = (x: Activation): Float32Array => (x as ReferenceActivation).values;

function activation(rows: number, cols: number): ReferenceActivation {
  return { rows, cols, values: new Float32Array(rows * cols) };
}

export class ReferenceBackend implements Backend {
  readonly name = 'reference';
  #batch: Batch | null = null;
  #kv: ReferencePages | null = null;

  async loadLinear(weight: LinearWeight, label: string): Promise<Linear> {
    const values = plain(weight);
    if (values.length !== weight.outFeatures * weight.inFeatures)
      throw new NibbleError({
        code: 'internal',
        reason: `${label}: ${values.length} values for [${weight.outFeatures}, ${weight.inFeatures}]`,
      });
    const loaded: ReferenceLinear = {
      outFeatures: weight.outFeatures,
      inFeatures: weight.inFeatures,
      bytes: values.byteLength,
      values,
      bias: weight.bias,
    };
    return loaded;
  }

  loadVector(values: Float32Array): Vector {
    const vector: ReferenceVector = { length: values.length, values };
    return vector;
  }

  allocateKv(shape: KvShape): void {
    const plane = () => new Float32Array(shape.pages * shape.pageTokens * shape.kvHeads * shape.headDim);
    this.#kv = {
      shape,
      keys: Array.from({ length: shape.layers }, plane),
      values: Array.from({ length: shape.layers }, plane),
    };
  }

  begin(batch: Batch): void {
    this.#batch = batch;
  }

  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope {
    const rope: ReferenceRope = { rotaryDim, cos, sin };
    return rope;
  }

  embed(table: Linear): Activation {
    const { values, inFeatures } = table as ReferenceLinear;
    const { tokenIds } = this.#current();
    const y = activation(tokenIds.length, inFeatures);
    tokenIds.forEach((id, row) => {
      y.values.set(values.subarray(id * inFeatures, (id + 1) * inFeatures), row * inFeatures);
    });
    return y;
  }

  rmsNorm(x: Activation, weight: Vector, eps: number): Activation {
    const values = valuesOf(x);
    const scale = (weight as ReferenceVector).values;
    const y = activation(x.rows, x.cols);
    for (let row = 0; row < x.rows; row++) {
      let squares = 0;
      for (let i = 0; i < x.cols; i++) squares += values[row * x.cols + i]! ** 2;
      const inverse = 1 / Math.sqrt(squares / x.cols + eps);
      for (let i = 0; i < x.cols; i++) y.values[row * x.cols + i] = values[row * x.cols + i]! * inverse * scale[i]!;
    }
    return y;
  }

  addRmsNorm(residual: Activation, x: Activation, weight: Vector, eps: number): Activation {
    const sum = valuesOf(residual);
    valuesOf(x).forEach((value, i) => {
      sum[i] = sum[i]! + value;
    });
    return this.rmsNorm(residual, weight, eps);
  }

  linear(x: Activation, weight: Linear): Activation {
    const { values: w, bias, outFeatures, inFeatures } = weight as ReferenceLinear;
    if (x.cols !== inFeatures) throw new Error(`linear: x has ${x.cols} columns, the weight takes ${inFeatures}`);
    const values = valuesOf(x);
    const y = activation(x.rows, outFeatures);
    for (let row = 0; row < x.rows; row++)
      for (let n = 0; n < outFeatures; n++) {
        let sum = 0;
        for (let k = 0; k < inFeatures; k++) sum += values[row * inFeatures + k]! * w[n * inFeatures + k]!;
        y.values[row * outFeatures + n] = sum + (bias?.[n] ?? 0);
      }
    return y;
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope): void {
    const { shape, keys, values } = this.#pages();
    const { slots } = this.#current();
    rotate(valuesOf(q), q, shape.headDim, rope as ReferenceRope);
    rotate(valuesOf(k), k, shape.headDim, rope as ReferenceRope);
    const width = shape.kvHeads * shape.headDim;
    slots.forEach((slot, row) => {
      keys[layer]!.set(valuesOf(k).subarray(row * width, (row + 1) * width), slot * width);
      values[layer]!.set(valuesOf(v).subarray(row * width, (row + 1) * width), slot * width);
    });
  }

  attention(layer: number, q: Activation, { heads, scale }: AttentionOptions): Activation {
    const { shape, keys, values } = this.#pages();
    const { positions, sequenceOf, pageTables, maxPages } = this.#current();
    const { headDim, kvHeads, pageTokens } = shape;
    const width = kvHeads * headDim;
    const y = activation(q.rows, q.cols);
    for (let row = 0; row < q.rows; row++) {
      const context = positions[row]! + 1;
      const slotOf = (position: number) =>
        pageTables[sequenceOf[row]! * maxPages + Math.floor(position / pageTokens)]! * pageTokens +
        (position % pageTokens);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads);
        const query = valuesOf(q).subarray(row * q.cols + head * headDim, row * q.cols + (head + 1) * headDim);
        const scores = new Float64Array(context);
        for (let position = 0; position < context; position++) {
          const base = slotOf(position) * width + kvHead * headDim;
          let dot = 0;
          for (let i = 0; i < headDim; i++) dot += query[i]! * keys[layer]![base + i]!;
          scores[position] = dot * scale;
        }
        const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
        const weights = scores.map((score) => Math.exp(score - highest));
        const total = weights.reduce((a, b) => a + b, 0);
        for (let i = 0; i < headDim; i++) {
          let sum = 0;
          for (let position = 0; position < context; position++)
            sum += weights[position]! * values[layer]![slotOf(position) * width + kvHead * headDim + i]!;
          y.values[row * q.cols + head * headDim + i] = sum / total;
        }
      }
    }
    return y;
  }

  gatedSilu(gate: Activation, up: Activation): Activation {
    const y = activation(gate.rows, gate.cols);
    valuesOf(gate).forEach((g, i) => {
      y.values[i] = (g / (1 + Math.exp(-g))) * valuesOf(up)[i]!;
    });
    return y;
  }

  gatherRows(x: Activation, rows: Int32Array): Activation {
    const y = activation(rows.length, x.cols);
    rows.forEach((from, row) => {
      y.values.set(valuesOf(x).subarray(from * x.cols, (from + 1) * x.cols), row * x.cols);
    });
    return y;
  }

  async read(x: Activation): Promise<Float32Array> {
    return valuesOf(x).slice();
  }

  async dispose(): Promise<void> {
    this.#kv = null;
    this.#batch = null;
  }

  #current(): Batch {
    if (this.#batch === null) throw new Error('an op was called before begin');
    return this.#batch;
  }

  #pages(): ReferencePages {
    if (this.#kv === null) throw new Error('ropeKv or attention was called before allocateKv');
    return this.#kv;
  }
}

/** The weight as f32 [out, in]. */
function plain(weight: LinearWeight): Float32Array {
  return weight.kind === 'gptq' ? dequantizeGptq(weight) : floatsOf(weight.bytes, weight.dtype);
}

/** x [tokens, heads·headDim] in place: channel i of a head turns with channel i + rotaryDim/2. */
function rotate(
  values: Float32Array,
  { rows, cols }: Activation,
  headDim: number,
  { cos, sin, rotaryDim }: ReferenceRope,
): void {
  const half = rotaryDim / 2;
  for (let row = 0; row < rows; row++)
    for (let head = 0; head < cols; head += headDim)
      for (let i = 0; i < half; i++) {
        const at = row * cols + head + i;
        const [a, b] = [values[at]!, values[at + half]!];
        const [c, s] = [cos[row * half + i]!, sin[row * half + i]!];
        values[at] = a * c - b * s;
        values[at + half] = b * c + a * s;
      }
}
