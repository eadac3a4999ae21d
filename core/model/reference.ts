/** Reference: the Backend as plain loops, sums in f64. The oracle that every kernel is compared with; slow on purpose. */
import {
  type Activation,
  type ActivationFunction,
  type AttentionOptions,
  type Backend,
  type Batch,
  type KvShape,
  kvUnsupported,
  type Linear,
  type LinearWeight,
  type Rope,
  type TopLogits,
  type Vector,
} from './backend.ts';
import { attend, type ReferencePages, type ReferenceRope, rotate } from './reference-attention.ts';
import { addRows, applied, copyColumns, layerNormRows, rmsNormRows } from './reference-rows.ts';
import { dequantize, prepareReferenceLinear, type ReferenceProduct } from './reference-weights.ts';
import { topLogits } from './top-logits.ts';

interface ReferenceLinear extends Linear {
  weight: LinearWeight;
  product: ReferenceProduct;
  /** [out, in] of what embed has read; null before. */
  table: Float32Array | null;
}
interface ReferenceActivation extends Activation {
  /** [rows, cols] */
  values: Float32Array;
}
interface ReferenceVector extends Vector {
  values: Float32Array;
}

const valuesOf = (x: Activation): Float32Array => (x as ReferenceActivation).values;
const vectorOf = (vector: Vector): Float32Array => (vector as ReferenceVector).values;

function activation(rows: number, cols: number, values?: Float32Array): ReferenceActivation {
  return { rows, cols, values: values ?? new Float32Array(rows * cols) };
}

export class ReferenceBackend implements Backend {
  readonly name = 'reference';
  readonly defaultKvDtype = 'f32';
  readonly batchInvariant = true;
  #batch: Batch | null = null;
  #kv: ReferencePages | null = null;

  async loadLinear(weight: LinearWeight): Promise<Linear> {
    const { outFeatures, inFeatures } = weight;
    const product = prepareReferenceLinear(weight);
    const bytes = 4 * outFeatures * inFeatures;
    const loaded: ReferenceLinear = { outFeatures, inFeatures, bytes, weight, product, table: null };
    return loaded;
  }

  loadVector(values: Float32Array): Vector {
    const vector: ReferenceVector = { length: values.length, values };
    return vector;
  }

  async kvBudgetBytes(): Promise<number> {
    return 1 << 30;
  }

  allocateKv(shape: KvShape): void {
    if (shape.dtype !== 'f32') throw kvUnsupported(this.name, shape.dtype);
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

  /** Memory comes back at the next `begin`. */
  free(_x: Activation): void {}

  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope {
    const rope: ReferenceRope = { rotaryDim, cos, sin };
    return rope;
  }

  write(values: Float32Array, rows: number, cols: number): Activation {
    expectSame('write', values.length, rows * cols);
    return activation(rows, cols, values.slice());
  }

  embed(linear: Linear, ids: Int32Array, scale: number): Activation {
    const loaded = linear as ReferenceLinear;
    loaded.table ??= dequantize(loaded.weight);
    const { table, inFeatures } = loaded;
    const y = activation(ids.length, inFeatures);
    ids.forEach((id, row) => {
      for (let i = 0; i < inFeatures; i++) y.values[row * inFeatures + i] = table[id * inFeatures + i]! * scale;
    });
    return y;
  }

  rmsNorm(x: Activation, weight: Vector, eps: number): Activation {
    expectSame('rmsNorm', x.cols, weight.length);
    return activation(x.rows, x.cols, rmsNormRows(valuesOf(x), x, vectorOf(weight), eps));
  }

  addRmsNorm(residual: Activation, x: Activation, weight: Vector, eps: number): Activation {
    this.add(residual, x);
    return this.rmsNorm(residual, weight, eps);
  }

  layerNorm(x: Activation, weight: Vector, bias: Vector | null, eps: number): Activation {
    expectSame('layerNorm', x.cols, weight.length);
    const shift = bias === null ? null : vectorOf(bias);
    return activation(x.rows, x.cols, layerNormRows(valuesOf(x), x, vectorOf(weight), shift, eps));
  }

  add(residual: Activation, x: Activation): void {
    expectSame('add', residual.rows * residual.cols, x.rows * x.cols);
    addRows(valuesOf(residual), valuesOf(x));
  }

  linear(x: Activation, weight: Linear): Activation {
    const { product, outFeatures, inFeatures } = weight as ReferenceLinear;
    expectSame('linear', x.cols, inFeatures);
    return activation(x.rows, outFeatures, product(valuesOf(x), x.rows));
  }

  linears(x: Activation, weights: readonly Linear[]): Activation[] {
    return weights.map((weight) => this.linear(x, weight));
  }

  gatedLinear(f: ActivationFunction, x: Activation, gate: Linear, up: Linear): Activation {
    return this.gated(f, this.linear(x, gate), this.linear(x, up));
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope | null): void {
    const { shape, keys, values } = this.#pages();
    const { slots } = this.#current();
    if (rope !== null) for (const x of [q, k]) rotate(valuesOf(x), x, shape.headDim, rope as ReferenceRope);
    const width = shape.kvHeads * shape.headDim;
    expectSame('ropeKv', k.cols, width);
    slots.forEach((slot, row) => {
      keys[layer]!.set(valuesOf(k).subarray(row * width, (row + 1) * width), slot * width);
      values[layer]!.set(valuesOf(v).subarray(row * width, (row + 1) * width), slot * width);
    });
  }

  attention(layer: number, q: Activation, options: AttentionOptions): Activation {
    return activation(q.rows, q.cols, attend(layer, valuesOf(q), q.cols, options, this.#pages(), this.#current()));
  }

  gated(f: ActivationFunction, gate: Activation, up: Activation): Activation {
    expectSame('gated', gate.rows * gate.cols, up.rows * up.cols);
    const other = valuesOf(up);
    return activation(
      gate.rows,
      gate.cols,
      valuesOf(gate).map((value, i) => applied(f, value) * other[i]!),
    );
  }

  activate(f: ActivationFunction, x: Activation): Activation {
    return activation(
      x.rows,
      x.cols,
      valuesOf(x).map((value) => applied(f, value)),
    );
  }

  columns(x: Activation, ranges: readonly { begin: number; count: number }[]): Activation {
    const cols = ranges.reduce((sum, { count }) => sum + count, 0);
    return activation(x.rows, cols, copyColumns(valuesOf(x), x, ranges));
  }

  reshape(x: Activation, rows: number, cols: number): Activation {
    expectSame('reshape', x.rows * x.cols, rows * cols);
    return activation(rows, cols, valuesOf(x));
  }

  gatherRows(x: Activation, rows: Int32Array): Activation {
    const y = activation(rows.length, x.cols);
    rows.forEach((from, row) => {
      y.values.set(valuesOf(x).subarray(from * x.cols, (from + 1) * x.cols), row * x.cols);
    });
    return y;
  }

  softcap(x: Activation, softcap: number): void {
    const values = valuesOf(x);
    values.forEach((value, i) => {
      values[i] = softcap * Math.tanh(value / softcap);
    });
  }

  async read(x: Activation): Promise<Float32Array> {
    return valuesOf(x).slice();
  }

  async top(logits: Activation, count: number, temperatures: Float32Array): Promise<TopLogits> {
    return topLogits(valuesOf(logits), logits.rows, logits.cols, count, temperatures);
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

function expectSame(op: string, got: number, wanted: number): void {
  if (got !== wanted) throw new Error(`${op}: ${got} columns or values where ${wanted} are needed`);
}
