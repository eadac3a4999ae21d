/** Kernels: the exports of the compiled kernel set. Pointers are byte addresses in its memory; shapes are in assembly/*.ts. */
import { NibbleError } from '../core/errors.ts';
import type { ActivationFunction } from '../core/model/backend.ts';

export type KernelVariant = 'relaxed' | 'plain';

/** One export for each of [2, 3, 4, 8] bits. */
type GptqKernels = Record<`linear_gptq${2 | 3 | 4 | 8}_sym`, SymmetricKernel> &
  Record<`linear_gptq${2 | 3 | 4 | 8}_asym`, AsymmetricKernel>;

type ActivationKernels = Record<`activate_${ActivationFunction}`, (x: number, y: number, count: number) => void> &
  Record<`gated_${ActivationFunction}`, (gate: number, up: number, y: number, count: number) => void>;

export interface Kernels extends GptqKernels, ActivationKernels {
  embed_f16: EmbedKernel;
  embed_f32: EmbedKernel;
  rms_norm(x: number, weight: number, y: number, rows: number, cols: number, eps: number): void;
  add_rms_norm(residual: number, x: number, weight: number, y: number, rows: number, cols: number, eps: number): void;
  layer_norm(x: number, weight: number, y: number, rows: number, cols: number, eps: number): void;
  layer_norm_bias(x: number, weight: number, bias: number, y: number, rows: number, cols: number, eps: number): void;
  add(residual: number, x: number, count: number): void;
  pad_rows(x: number, padded: number, tokens: number, cols: number, stride: number): void;
  linear_dense_f16: DenseKernel;
  linear_dense_f32: DenseKernel;
  quantize_rows(
    x: number,
    channels: number,
    groupOctets: number,
    q: number,
    scale: number,
    minusSum: number,
    gathered: number,
    tokens: number,
    cols: number,
    octets: number,
    groups: number,
    levels: number,
    wide: boolean,
  ): void;
  linear_bnb4_chunks(q: number, tables: number, scale: number, ...product: ChunkedProduct): void;
  linear_bnb4_blocks(
    codes: number,
    table: number,
    absmax: number,
    bias: number,
    x: number,
    y: number,
    tokens: number,
    rows: number,
    cols: number,
    blockSize: number,
  ): void;
  quantize_tokens(
    x: number,
    q: number,
    scale: number,
    minusSum: number,
    outliers: number,
    outlierCount: number,
    kept: number,
    tokens: number,
    cols: number,
    octets: number,
    threshold: number,
  ): void;
  linear_int8(
    q: number,
    scale: number,
    bias: number,
    x: number,
    x8: number,
    xScale: number,
    minusSum: number,
    outliers: number,
    outlierCount: number,
    y: number,
    tokens: number,
    rows: number,
    cols: number,
    octets: number,
  ): void;
  rope_kv(
    q: number,
    k: number,
    v: number,
    cos: number,
    sin: number,
    slots: number,
    keyPages: number,
    valuePages: number,
    tokens: number,
    heads: number,
    kvHeads: number,
    headDim: number,
    half: number,
    pageTokens: number,
  ): void;
  attention(
    q: number,
    keyPages: number,
    valuePages: number,
    positions: number,
    sequenceOf: number,
    pageTables: number,
    slopes: number,
    scores: number,
    y: number,
    tokens: number,
    heads: number,
    kvHeads: number,
    headDim: number,
    pageTokens: number,
    maxPages: number,
    scale: number,
    window: number,
    softcap: number,
  ): void;
  gather_rows(x: number, rows: number, y: number, count: number, cols: number): void;
  copy_columns(
    x: number,
    y: number,
    rows: number,
    xCols: number,
    yCols: number,
    from: number,
    to: number,
    count: number,
  ): void;
  exp_f32(x: number, y: number, count: number): void;
  tanh_f32(x: number, y: number, count: number): void;
  read_limit(x: number, bytes: number): number;
  dot_limit(seed: number, rounds: number): number;
}

type EmbedKernel = (
  table: number,
  ids: number,
  y: number,
  count: number,
  cols: number,
  stride: number,
  scale: number,
) => void;
type DenseKernel = (
  w: number,
  bias: number,
  x: number,
  y: number,
  tokens: number,
  rows: number,
  stride: number,
) => void;
/** What every kernel over chunks takes after its weights' own addresses. */
export type ChunkedProduct = [
  bias: number,
  groupOctets: number,
  x: number,
  xScale: number,
  minusSum: number,
  y: number,
  tokens: number,
  rows: number,
  groups: number,
  octets: number,
  chunks: number,
];
type SymmetricKernel = (q: number, scale: number, ...product: ChunkedProduct) => void;
type AsymmetricKernel = (q: number, zero: number, scale: number, ...product: ChunkedProduct) => void;

/** Instantiates without compiling, as an edge isolate requires. Throws `internal` when the module is not a kernel set. */
export function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  if (typeof exports.linear_gptq4_sym !== 'function')
    throw new NibbleError({ code: 'internal', reason: 'the WebAssembly module is not a Nibble kernel set' });
  return exports as unknown as Kernels;
}
