/** WasmBackend: the Backend over the kernel set, in one linear memory, on one thread. No Node, no Workers. */
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
} from '../core/model/backend.ts';
import { instantiateKernels, type Kernels, type KernelVariant } from './kernels.ts';
import { runLinear } from './linear.ts';
import { KernelMemory } from './memory.ts';
import { type PlacedBatch, placeBatch } from './step.ts';
import {
  activationAddress,
  expectSameShape,
  expectShape,
  impossible,
  type WasmActivation,
  type WasmRope,
  type WasmVector,
} from './tensors.ts';
import { denseTable, expectLength, loadWeight, type WasmLinear } from './weights.ts';

/** One layer's pages, each [pages, kvHeads, pageTokens, headDim] f32. */
interface LayerPages {
  keys: number;
  values: number;
}

/**
 * `module` is one of the two builds, `variant` says which. Instantiates, never compiles.
 * `maxBytes` caps the memory, 4 GiB by default; beyond it loading throws `model_unsupported` and a step `internal`.
 */
export function createWasmBackend(
  module: WebAssembly.Module,
  variant: KernelVariant,
  options: { maxBytes?: number } = {},
): WasmBackend {
  const memory = new KernelMemory(options.maxBytes);
  return new WasmBackend(instantiateKernels(module, memory.memory), memory, variant);
}

export class WasmBackend implements Backend {
  readonly name = 'wasm';
  readonly variant: KernelVariant;
  #kernels: Kernels;
  #memory: KernelMemory;
  #kv: { shape: KvShape; layers: LayerPages[] } | null = null;
  #batch: PlacedBatch | null = null;
  #step = 0;

  constructor(kernels: Kernels, memory: KernelMemory, variant: KernelVariant) {
    this.#kernels = kernels;
    this.#memory = memory;
    this.variant = variant;
  }

  /** Bytes of linear memory in use: weights, pages and the current step. */
  get usedBytes(): number {
    return this.#memory.usedBytes;
  }

  async loadLinear(weight: LinearWeight, label: string): Promise<Linear> {
    return loadWeight(this.#memory, weight, label);
  }

  loadVector(values: Float32Array, label: string): Vector {
    const address = this.#memory.permanent(values.byteLength, label);
    this.#memory.f32(address, values.length).set(values);
    const vector: WasmVector = { memory: this.#memory, length: values.length, address };
    return vector;
  }

  allocateKv(shape: KvShape): void {
    if (this.#kv !== null) throw impossible('allocateKv: called twice');
    // A batch is checked against the pages when it begins.
    if (this.#step > 0) throw impossible('allocateKv: called after begin');
    const planeBytes = shape.pages * shape.pageTokens * shape.kvHeads * shape.headDim * 4;
    const layers = Array.from({ length: shape.layers }, (_, layer) => ({
      keys: this.#memory.permanent(planeBytes, `key pages of layer ${layer}`),
      values: this.#memory.permanent(planeBytes, `value pages of layer ${layer}`),
    }));
    this.#kv = { shape, layers };
  }

  begin(batch: Batch): void {
    this.#memory.reset();
    this.#step++;
    this.#batch = placeBatch(this.#memory, batch, this.#kv?.shape ?? null);
  }

  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope {
    const { tokens } = this.#current();
    if (rotaryDim % 2 !== 0) throw impossible(`rope: rotaryDim ${rotaryDim} is odd`);
    expectLength('rope', 'cos', cos.length, (tokens * rotaryDim) / 2);
    expectLength('rope', 'sin', sin.length, cos.length);
    const place = (table: Float32Array) => {
      const address = this.#memory.step(table.byteLength);
      this.#memory.f32(address, table.length).set(table);
      return address;
    };
    const rope: WasmRope = { rotaryDim, cos: place(cos), sin: place(sin), step: this.#step };
    return rope;
  }

  embed(table: Linear): Activation {
    const { weights, dtype, stride, outFeatures, inFeatures } = denseTable(this.#weight(table));
    const { tokens, ids, source } = this.#current();
    const outside = source.tokenIds.find((id) => id < 0 || id >= outFeatures);
    if (outside !== undefined) throw impossible(`embed: token ${outside} of a table of ${outFeatures}`);
    const y = this.#activation(tokens, inFeatures);
    const kernel = dtype === 'f16' ? this.#kernels.embed_f16 : this.#kernels.embed_f32;
    kernel(weights, ids, y.address, tokens, inFeatures, stride);
    return y;
  }

  rmsNorm(x: Activation, weight: Vector, eps: number): Activation {
    const scale = this.#vector(weight, x.cols);
    const y = this.#activation(x.rows, x.cols);
    this.#kernels.rms_norm(this.#own(x), scale, y.address, x.rows, x.cols, eps);
    return y;
  }

  addRmsNorm(residual: Activation, x: Activation, weight: Vector, eps: number): Activation {
    expectSameShape('addRmsNorm', residual, x);
    const scale = this.#vector(weight, x.cols);
    const y = this.#activation(x.rows, x.cols);
    this.#kernels.add_rms_norm(this.#own(residual), this.#own(x), scale, y.address, x.rows, x.cols, eps);
    return y;
  }

  linear(x: Activation, weight: Linear): Activation {
    const own = this.#weight(weight);
    if (x.cols !== own.inFeatures) throw impossible(`linear: x has ${x.cols} columns, the weight ${own.inFeatures}`);
    const from = this.#own(x);
    const y = this.#activation(x.rows, own.outFeatures);
    runLinear({ kernels: this.#kernels, memory: this.#memory, variant: this.variant }, own, from, y.address, x.rows);
    return y;
  }

  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope): void {
    const { shape, pages } = this.#layer(layer);
    const { tokens, slots } = this.#current();
    const { cos, sin, step } = rope as WasmRope;
    const { kvHeads, headDim } = shape;
    if (step !== this.#step) throw impossible('ropeKv: the rotary tables are of an earlier step');
    if (rope.rotaryDim > headDim) throw impossible(`ropeKv: rotaryDim ${rope.rotaryDim} of a head of ${headDim}`);
    expectShape('ropeKv: q', q, tokens, headDim * Math.floor(q.cols / headDim));
    expectShape('ropeKv: k', k, tokens, kvHeads * headDim);
    expectShape('ropeKv: v', v, tokens, kvHeads * headDim);
    this.#kernels.rope_kv(
      this.#own(q),
      this.#own(k),
      this.#own(v),
      cos,
      sin,
      slots,
      pages.keys,
      pages.values,
      tokens,
      q.cols / headDim,
      kvHeads,
      headDim,
      rope.rotaryDim / 2,
      shape.pageTokens,
    );
  }

  attention(layer: number, q: Activation, { heads, scale }: AttentionOptions): Activation {
    const { shape, pages } = this.#layer(layer);
    const { kvHeads, headDim, pageTokens } = shape;
    const { tokens, positions, sequenceOf, pageTables, contextTokens, source } = this.#current();
    if (heads % kvHeads !== 0) throw impossible(`attention: ${heads} heads over ${kvHeads} kv heads`);
    expectShape('attention: q', q, tokens, heads * headDim);
    const y = this.#activation(tokens, q.cols);
    const mark = this.#memory.mark;
    const scores = this.#memory.step(Math.ceil(contextTokens / 4) * 16);
    this.#kernels.attention(
      this.#own(q),
      pages.keys,
      pages.values,
      positions,
      sequenceOf,
      pageTables,
      scores,
      y.address,
      tokens,
      heads,
      kvHeads,
      headDim,
      pageTokens,
      source.maxPages,
      scale,
    );
    this.#memory.release(mark);
    return y;
  }

  gatedSilu(gate: Activation, up: Activation): Activation {
    expectSameShape('gatedSilu', gate, up);
    const y = this.#activation(gate.rows, gate.cols);
    this.#kernels.gated_silu(this.#own(gate), this.#own(up), y.address, gate.rows * gate.cols);
    return y;
  }

  gatherRows(x: Activation, rows: Int32Array): Activation {
    const outside = rows.find((row) => row < 0 || row >= x.rows);
    if (outside !== undefined) throw impossible(`gatherRows: row ${outside} of ${x.rows}`);
    const from = this.#own(x);
    const y = this.#activation(rows.length, x.cols);
    const mark = this.#memory.mark;
    const address = this.#memory.step(rows.byteLength);
    this.#memory.i32(address, rows.length).set(rows);
    this.#kernels.gather_rows(from, address, y.address, rows.length, x.cols);
    this.#memory.release(mark);
    return y;
  }

  async read(x: Activation): Promise<Float32Array> {
    return this.#memory.f32(this.#own(x), x.rows * x.cols).slice();
  }

  async dispose(): Promise<void> {
    // The linear memory goes with its last reference.
    this.#memory = new KernelMemory(0);
    this.#kv = null;
    this.#batch = null;
    this.#step++;
  }

  #activation(rows: number, cols: number): WasmActivation {
    return { memory: this.#memory, rows, cols, address: this.#memory.step(rows * cols * 4), step: this.#step };
  }

  #own(x: Activation): number {
    return activationAddress(x, this.#memory, this.#step);
  }

  #weight(weight: Linear): WasmLinear {
    const own = weight as WasmLinear;
    if (own.memory !== this.#memory) throw impossible('a weight of another backend');
    return own;
  }

  #vector(vector: Vector, length: number): number {
    const { memory, address } = vector as WasmVector;
    if (memory !== this.#memory) throw impossible('a vector of another backend');
    expectLength('norm', 'weight', vector.length, length);
    return address;
  }

  #current(): PlacedBatch {
    if (this.#batch === null) throw impossible('no batch: begin was not called');
    return this.#batch;
  }

  #layer(layer: number): { shape: KvShape; pages: LayerPages } {
    const pages = this.#kv?.layers[layer];
    if (this.#kv === null || pages === undefined) throw impossible(`no key/value pages for layer ${layer}`);
    return { shape: this.#kv.shape, pages };
  }
}
