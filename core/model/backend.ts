/** Backend: what a kernel set must do. The forward pass (graph.ts) is written once against it; reference.ts is its oracle. */
import { NibbleError } from '../errors.ts';

export type BackendName = 'reference' | 'wasm' | 'webgpu' | 'cuda';

/** A matrix as it lies in a checkpoint; y [tokens, out] = x [tokens, in] · Wᵀ + bias. */
export type LinearWeight = DenseWeight | GptqWeight | Bnb4Weight | Int8Weight;

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

/** bitsandbytes' 4-bit layout: W[n,k] = table[code] · absmax[block], blocks over the flattened [out, in] tensor, so they may cross rows. */
export interface Bnb4Weight {
  kind: 'bnb4';
  outFeatures: number;
  inFeatures: number;
  quantType: 'nf4' | 'fp4';
  /** Values in one block; the last block may be shorter. */
  blockSize: number;
  /** [⌈out·in/2⌉] two codes a byte, the first in the high half. */
  packed: Uint8Array;
  /** [16] f32 value of each code */
  table: Float32Array;
  absmax: Bnb4Absmax;
  /** [out] f32 */
  bias: Float32Array | null;
}

export type Bnb4Absmax =
  /** [blocks] f32 */
  | { kind: 'plain'; values: Float32Array }
  /** Double quantization: absmax[i] = table[codes[i]] · nested[⌊i/blockSize⌋] + offset. codes [blocks] u8, table [256] f32, nested [⌈blocks/blockSize⌉] f32. */
  | { kind: 'nested'; codes: Uint8Array; table: Float32Array; nested: Float32Array; blockSize: number; offset: number };

/**
 * LLM.int8(): W[n,k] ≈ values[n,k] · rowAbsmax[n] / 127. A token's activations are rounded to int8 by their own absolute maximum;
 * those of magnitude ≥ threshold are left out of that and multiplied in f32 with the dequantised weight. Decided per token, as
 * bitsandbytes does for one row, so that a token's output does not depend on its batch.
 */
export interface Int8Weight {
  kind: 'int8';
  outFeatures: number;
  inFeatures: number;
  /** [out, in] */
  values: Int8Array;
  /** [out] f32 */
  rowAbsmax: Float32Array;
  /** 0: no outliers are taken out. */
  threshold: number;
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

/** A step's intermediate, f32 [rows, cols] row-major. Valid until `free` or the next `begin`, whichever is first. */
export interface Activation {
  readonly rows: number;
  readonly cols: number;
}

/** Rotary tables of this step's tokens. Valid until the next `begin`. */
export interface Rope {
  /** Leading channels of a head that rotate; even, ≤ headDim. */
  readonly rotaryDim: number;
}

/** How keys and values lie in their pages. int8: rounded by the absolute maximum of each head's row of each token, kept beside it. */
export type KvDtype = 'f32' | 'f16' | 'int8';

export function kvUnsupported(backend: BackendName, dtype: KvDtype): NibbleError {
  const reason = `the ${backend} backend has no ${dtype} key/value pages`;
  return new NibbleError({ code: 'model_unsupported', file: backend, option: 'kv-cache-dtype', reason });
}

/** Bytes of one token's keys and values in all layers. */
export function kvBytesPerToken({
  layers,
  kvHeads,
  headDim,
  dtype,
}: Pick<KvShape, 'layers' | 'kvHeads' | 'headDim' | 'dtype'>): number {
  const headBytes = { f32: 4 * headDim, f16: 2 * headDim, int8: headDim + 4 }[dtype];
  return 2 * layers * kvHeads * headBytes;
}

export interface KvShape {
  layers: number;
  kvHeads: number;
  headDim: number;
  pages: number;
  /** Tokens in a page. */
  pageTokens: number;
  dtype: KvDtype;
}

/** Most candidates that `top` gives a row: what sampling needs in nearly every case. */
export const MAX_CANDIDATES = 64;

/** The likeliest tokens of each row of logits, and what the whole row sums to. */
export interface TopLogits {
  /** Candidates a row: as many as were asked for, or the row's length when it is shorter. */
  count: number;
  /** [rows, count] highest logit first, lower id first among equals */
  ids: Int32Array;
  /** [rows, count] */
  logits: Float32Array;
  /** [rows] log Σ exp(logit) over the whole row; NaN when a logit is not a number */
  logTotals: Float32Array;
  /** [rows] log Σ exp(logit / temperature) over the whole row; the row's logTotal where the temperature is 0 */
  scaledLogTotals: Float32Array;
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
  /** [sequences] tokens that each sequence may have in all; rope scalings that depend on length choose by it, once for the whole sequence */
  plannedTokens: Int32Array;
}

export interface AttentionOptions {
  heads: number;
  /** Factor on q·k, usually 1/√headDim. */
  scale: number;
  /** Only the last so many positions, its own included, are seen; null: all. */
  window: number | null;
  /** Scores become softcap · tanh(score / softcap); null: they stay. */
  softcap: number | null;
  /** [heads] added to a score: slope · (key position − query position) (ALiBi); null: nothing. */
  alibiSlopes: Float32Array | null;
}

/** relu; gelu by the error function; gelu by tanh; silu. */
export type ActivationFunction = 'relu' | 'gelu' | 'gelu_tanh' | 'silu';

/**
 * Ordering: ops run in call order; a call may return before its work is done, and only `read` waits.
 * Batch invariance: the row an op computes for a token depends on that token and its own sequence alone, bit for bit:
 * the same in prefill and decode, alone and in any batch. So every output has one order of summation, whatever the tile.
 * A GPU backend may give that up for speed unless it was opened as deterministic; `batchInvariant` says which it does.
 * Errors: shapes that do not fit throw (an impossible state); weights that cannot be run throw `model_unsupported`; memory that a GPU
 * refuses is `out_of_memory`; a device that went away is `device_lost`, from then on by every call: the backend is opened and loaded anew.
 */
export interface Backend {
  readonly name: BackendName;
  /** What `allocateKv` should be given unless the operator says otherwise. */
  readonly defaultKvDtype: KvDtype;
  readonly batchInvariant: boolean;

  /** Copies the weight to the backend, repacked as it likes. The caller may drop its bytes afterwards. `label` names the tensor in errors. */
  loadLinear(weight: LinearWeight, label: string): Promise<Linear>;
  /**
   * Tells that `linears` or `gatedLinear` will be asked for these weights together and in this order: the backend may lay them out as one.
   * Each stays usable by itself. Absent where nothing is gained.
   */
  join?(weights: readonly Linear[]): Promise<void>;
  loadVector(values: Float32Array, label: string): Vector;
  /** Bytes that key/value pages may take: what is free now that the weights are loaded, less what steps need. */
  kvBudgetBytes(): Promise<number>;
  /** Reserves the key/value pages, once, before the first `begin`. A dtype that the backend lacks throws `model_unsupported`. */
  allocateKv(shape: KvShape): void;

  /** Starts a step: frees the last step's activations and takes the batch. */
  begin(batch: Batch): void;
  /** Tells that x, and every reshaped name of it, will not be used again in this step: its memory may serve later ops. */
  free(x: Activation): void;
  /** cos, sin [tokens, rotaryDim/2] f32 for the batch's positions. */
  rope(cos: Float32Array, sin: Float32Array, rotaryDim: number): Rope;
  /** Copies values [rows·cols] in: the inverse of `read`. */
  write(values: Float32Array, rows: number, cols: number): Activation;
  /** Rows of a dense or gptq table [entries, hidden] by id, times scale → [ids.length, hidden]. */
  embed(table: Linear, ids: Int32Array, scale: number): Activation;
  /** y = x / √(mean(x²) + eps) · weight, per row → [rows, cols]. */
  rmsNorm(x: Activation, weight: Vector, eps: number): Activation;
  /** residual += x in place, then the rmsNorm of residual. */
  addRmsNorm(residual: Activation, x: Activation, weight: Vector, eps: number): Activation;
  /** y = (x − mean(x)) / √(variance(x) + eps) · weight + bias, per row → [rows, cols]. */
  layerNorm(x: Activation, weight: Vector, bias: Vector | null, eps: number): Activation;
  /** residual += x in place. */
  add(residual: Activation, x: Activation): void;
  /** x [rows, in] → [rows, out] */
  linear(x: Activation, weight: Linear): Activation;
  /** Several linears of one input, each as `linear` would give it: [rows, in] → [rows, out] of each weight. */
  linears(x: Activation, weights: readonly Linear[]): Activation[];
  /** f(x · gateᵀ) · (x · upᵀ), as two linears and `gated` would give it → [rows, out]. */
  gatedLinear(f: ActivationFunction, x: Activation, gate: Linear, up: Linear): Activation;
  /**
   * Rotates q [tokens, heads·headDim] in place and k [tokens, kvHeads·headDim] (halves convention: channel i pairs with i + rotaryDim/2),
   * then writes k and v [tokens, kvHeads·headDim] of every token to its slot of `layer`. `rope: null` rotates nothing.
   */
  ropeKv(layer: number, q: Activation, k: Activation, v: Activation, rope: Rope | null): void;
  /** Causal attention of each token over its own sequence's pages, positions 0..its own; q head h reads kv head ⌊h·kvHeads/heads⌋ → [tokens, heads·headDim]. */
  attention(layer: number, q: Activation, options: AttentionOptions): Activation;
  /** f(gate) · up → the same shape. */
  gated(f: ActivationFunction, gate: Activation, up: Activation): Activation;
  /** f(x) → the same shape. */
  activate(f: ActivationFunction, x: Activation): Activation;
  /** The given column ranges of every row, one after another → [rows, sum of counts]. */
  columns(x: Activation, ranges: readonly { begin: number; count: number }[]): Activation;
  /** The same numbers seen as [rows, cols]; no copy, so both names mean one activation. */
  reshape(x: Activation, rows: number, cols: number): Activation;
  /** The given rows in the given order → [rows.length, cols]. */
  gatherRows(x: Activation, rows: Int32Array): Activation;
  /** softcap · tanh(x / softcap) in place. */
  softcap(x: Activation, softcap: number): void;
  /** Waits for everything before it and copies x out, [rows·cols]. */
  read(x: Activation): Promise<Float32Array>;
  /** Waits likewise and finds each row's `count` ≤ MAX_CANDIDATES likeliest. temperatures [rows], 0 for greedy rows. */
  top(logits: Activation, count: number, temperatures: Float32Array): Promise<TopLogits>;

  /** Frees everything. No call may follow. */
  dispose(): Promise<void>;
}

/** Bytes or operations a second, and by doing what. */
export interface MeasuredRate {
  /** For the report: "read, 16-byte loads", "copy", "f16 subgroup matrices". */
  what: string;
  /** Bytes, or operations, of which a multiply and an add are two. */
  perSecond: number;
}

/** One kernel's part of a profiled run. */
export interface KernelTime {
  /** The kernel's file name, then what tells its dispatches apart: "linear_gptq 1x4096 -> 11008". */
  kernel: string;
  calls: number;
  /** All calls together, on the device's own clock where it has one. */
  ms: number;
}

/**
 * What a backend may offer to `nibble bench` beside `Backend`: what its device can do at best, by the plainest kernels in the backend's own
 * language, so that a kernel's speed can be told as a fraction of it. Nothing else needs it. Each call measures anew, takes about a second
 * at most and gives its memory back. Calls come between steps and end the current one: activations are no longer valid.
 */
export interface Measurable {
  /** Adapter, driver and kernel variant, for people: "NVIDIA H100 (Vulkan), f16, subgroups of 32". */
  readonly device: string;
  /**
   * The median, or on a device of its own the best, of several passes over memory at least four times the last cache, written to before. What decode is bound by:
   * a "read" counts each byte once, a "copy" counts it read and written. A device that can do both tells the faster.
   */
  measureBandwidth(): Promise<MeasuredRate>;
  /** The same of several runs of multiply-adds without memory traffic, by the arithmetic that the backend's prefill kernels use. What prefill is bound by. */
  measureMatmul(): Promise<MeasuredRate>;
  /**
   * Runs `run` with every kernel timed, and sums by kernel, largest first. Timing may slow the run as a whole; a kernel's own time is right.
   * Absent where an op is done when its call returns: then the caller's clock tells the same.
   */
  profile?(run: () => Promise<void>): Promise<KernelTime[]>;
}
