/** Backend: what a kernel set must do. The forward pass (graph.ts) is written once against it; reference.ts is its oracle. */

export type BackendName = 'reference' | 'wasm' | 'webgpu' | 'cuda';

/** A matrix as it lies in a checkpoint; y [tokens, out] = x [tokens, in] · Wᵀ + bias. */
export type LinearWeight = DenseWeight | GptqWeight;

export interface DenseWeight {
  kind: 'dense';
  outFeatures: number;
  inFeatures: number;
  dtype: 'f32' | 'f16' | 'bf16';
  /** [out, in] row-major, little-endian. */
  bytes: Uint8Array;
  /** [out] f32 */
  bias: Float32Array | null;
}

/** GPTQ's packed layout (AutoGPTQ, Optimum, GPTQModel): W[n,k] = scales[g,n] · (q[k,n] − zero[g,n]), g = gIdx[k]. */
export interface GptqWeight {
  kind: 'gptq';
  outFeatures: number;
  inFeatures: number;
  bits: 2 | 3 | 4 | 8;
  /** Input channels per group; equals inFeatures when there is one group. */
  groupSize: number;
  /** [in·bits/32, out] i32, packed along in, lowest bits first. */
  qweight: Int32Array;
  /** [groups, out·bits/32] i32, packed along out; the zero point is the stored value + zeroOffset, within `bits` bits. */
  qzeros: Int32Array;
  /** 1 for checkpoint_format "gptq" (v1), 0 for "gptq_v2". */
  zeroOffset: 0 | 1;
  /** [groups, out] f16 bit patterns */
  scales: Uint16Array;
  /** [in] group of each input channel; null when it is k ÷ groupSize throughout (no act-order). */
  gIdx: Int32Array | null;
  /** [out] f32 */
  bias: Float32Array | null;
}

/** A matrix on the backend. `bytes` is what it occupies there. */
export interface Linear {
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly bytes: number;
}

/** A vector on the backend: norm weights. */
export interface Vector {
  readonly length: number;
}

/** A step's intermediate, f32 [rows, cols] row-major. Valid until the next `begin`; the backend frees it then. */
export interface Activation {
  readonly rows: number;
  readonly cols: number;
}

/** Rotary tables of this step's tokens. Valid until the next `begin`. */
export interface Rope {
  /** Leading channels of a head that rotate; even, ≤ headDim. */
  readonly rotaryDim: number;
}

export interface KvShape {
  layers: number;
  kvHeads: number;
  headDim: number;
  pages: number;
  /** Tokens in a page. */
  pageTokens: number;
}

/** One step's tokens, of any mix of prefills and decodes. A value: never changed after it was made. */
export interface Batch {
  /** [tokens] */
  tokenIds: Int32Array;
  /** [tokens] place of each token in its own sequence, from 0 */
  positions: Int32Array;
  /** [tokens] where its key and value go: page · pageTokens + offset */
  slots: Int32Array;
  /** [tokens] row of pageTables that holds its sequence's pages */
  sequenceOf: Int32Array;
  /** [sequences, maxPages] page ids in order of position; unused entries are 0 and never read */
  pageTables: Int32Array;
  maxPages: number;
  /** [outputs] token rows whose logits are wanted */
  outputRows: Int32Array;
}

export interface AttentionOptions {
  heads: number;
  /** Factor on q·k, usually 1/√headDim. */
  scale: number;
}

/**
 * Ordering: ops run in call order; a call may return before its work is done, and only `read` waits.
 * Batch invariance: the row an op computes for a token depends on that token and its own sequence alone, bit for bit:
 * the same in prefill and decode, alone and in any batch. So every output has one order of summation, whatever the tile.
 * Errors: shapes that do not fit throw (an impossible state); weights that cannot be run throw `model_unsupported`.
 */
export interface Backend {
  readonly name: BackendName;

  /** Copies the weight to the backend, repacked as it likes. The caller may drop its bytes afterwards. `label` names the tensor in errors. */
  loadLinear(weight: LinearWeight, label: string): Promise<Linear>;
  loadVector(values: Float32Array, label: string): Vector;
  /** Reserves the key/value pages, once, before the first `begin`. */
  allocateKv(shape: KvShape): void;

  /** Starts a step: frees the last step's activations and takes the batch. */
  begin(batch: Batch): void;
  /** cos, sin [tokens, rotaryDim/2] f32 for the batch's positions. */
  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope;
  /** Rows of a dense table [vocab, hidden] by the batch's token ids → [tokens, hidden]. */
  embed(table: Linear): Activation;
  /** y = x / √(mean(x²) + eps) · weight, per row → [rows, cols]. */
  rmsNorm(x: Activation, weight: Vector, eps: number): Activation;
  /** residual += x in place, then the rmsNorm of residual. */
  addRmsNorm(residual: Activation, x: Activation, weight: Vector, eps: number): Activation;
  /** x [rows, in] → [rows, out] */
  linear(x: Activation, weight: Linear): Activation;
  /**
   * Rotates q [tokens, heads·headDim] in place and k [tokens, kvHeads·headDim] (halves convention: channel i pairs with i + rotaryDim/2),
   * then writes k and v [tokens, kvHeads·headDim] of every token to its slot of `layer`.
   */
  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope): void;
  /** Causal attention of each token over its own sequence's pages, positions 0..its own; q head h reads kv head ⌊h·kvHeads/heads⌋ → [tokens, heads·headDim]. */
  attention(layer: number, q: Activation, options: AttentionOptions): Activation;
  /** silu(gate) · up → the same shape. */
  gatedSilu(gate: Activation, up: Activation): Activation;
  /** The given rows in the given order → [rows.length, cols]. */
  gatherRows(x: Activation, rows: Int32Array): Activation;
  /** Waits for everything before it and copies x out, [rows·cols]. */
  read(x: Activation): Promise<Float32Array>;

  /** Frees everything. No call may follow. */
  dispose(): Promise<void>;
}
