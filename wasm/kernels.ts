/** Kernels: the exports of the compiled kernel set. Pointers are byte addresses in its memory; shapes are in assembly/*.ts. */
import { NibbleError } from '../core/errors.ts';

export type KernelVariant = 'relaxed' | 'plain';

export interface Kernels {
  embed_f16: EmbedKernel;
  embed_f32: EmbedKernel;
  rms_norm(x: number, weight: number, y: number, rows: number, cols: number, eps: number): void;
  add_rms_norm(residual: number, x: number, weight: number, y: number, rows: number, cols: number, eps: number): void;
  pad_rows(x: number, padded: number, tokens: number, cols: number, stride: number): void;
  linear_dense_f16: DenseKernel;
  linear_dense_f32: DenseKernel;
  quantize_rows(
    x: number,
    q: number,
    scale: number,
    minusSum: number,
    padded: number,
    tokens: number,
    cols: number,
  ): void;
  linear_gptq_sym(
    q: number,
    scale: number,
    bias: number,
    x: number,
    xScale: number,
    minusSum: number,
    y: number,
    tokens: number,
    rows: number,
    groups: number,
    groupsPerScale: number,
  ): void;
  linear_gptq_asym(
    q: number,
    scale: number,
    zero: number,
    bias: number,
    x: number,
    xScale: number,
    minusSum: number,
    y: number,
    tokens: number,
    rows: number,
    groups: number,
    groupsPerScale: number,
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
    scores: number,
    y: number,
    tokens: number,
    heads: number,
    kvHeads: number,
    headDim: number,
    pageTokens: number,
    maxPages: number,
    scale: number,
  ): void;
  gated_silu(gate: number, up: number, y: number, count: number): void;
  gather_rows(x: number, rows: number, y: number, count: number, cols: number): void;
  exp_f32(x: number, y: number, count: number): void;
}

type EmbedKernel = (table: number, ids: number, y: number, tokens: number, cols: number, stride: number) => void;
type DenseKernel = (
  w: number,
  bias: number,
  x: number,
  y: number,
  tokens: number,
  rows: number,
  stride: number,
) => void;

/** Bytes of one quantized activation: i8, or i16 where the dot product takes nothing smaller. */
export function quantizedBytes(variant: KernelVariant): 1 | 2 {
  return variant === 'relaxed' ? 1 : 2;
}

/** Instantiates without compiling, as an edge isolate requires. Throws `internal` when the module is not a kernel set. */
export function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  if (typeof exports.linear_gptq_sym !== 'function')
    throw new NibbleError({ code: 'internal', reason: 'the WebAssembly module is not a Nibble kernel set' });
  return exports as unknown as Kernels;
}
