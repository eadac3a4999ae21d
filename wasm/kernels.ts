/** Kernels: the exports of the compiled kernel set, and the arguments that each takes from its task, in order. Shapes are in assembly/*.ts. */
import { NibbleError } from '../core/errors.ts';

export type KernelVariant = 'relaxed' | 'plain';

/** Every argument is an i32: an address in the kernels' memory, a number, a truth value as 0 or 1, or an f32 through `floatBits`. */
export interface KernelArguments {
  add: [residual: number, x: number, count: number];
  add_rms_norm: [residual: number, x: number, weight: number, y: number, rows: number, cols: number, epsBits: number];
  attention: Attention;
  copy_columns: [
    x: number,
    y: number,
    rows: number,
    xCols: number,
    yCols: number,
    from: number,
    to: number,
    count: number,
  ];
  embed_f16: Embed;
  embed_f32: Embed;
  embed_gptq: [
    bits: number,
    q: number,
    weightScale: number,
    zero: number,
    groupOctets: number,
    channels: number,
    ids: number,
    y: number,
    count: number,
    cols: number,
    groups: number,
    octets: number,
    scaleBits: number,
  ];
  gated_gelu: Gated;
  gated_gelu_tanh: Gated;
  gated_relu: Gated;
  gated_silu: Gated;
  gather_rows: [x: number, rows: number, y: number, count: number, cols: number];
  layer_norm: [x: number, weight: number, bias: number, y: number, rows: number, cols: number, epsBits: number];
  linear_bnb4_blocks: [
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
  ];
  linear_chunks: Chunks;
  linear_dense_f16: Dense;
  linear_dense_f32: Dense;
  linear_int8: [
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
  ];
  pad_rows: [x: number, padded: number, tokens: number, cols: number, stride: number];
  quantize_rows: [
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
    chunks: number,
    levelsBits: number,
    wide: number,
    factorBits: number,
    together: number,
  ];
  quantize_tokens: [
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
    thresholdBits: number,
  ];
  read: [x: number, bytes: number, sums: number];
  rms_norm: [x: number, weight: number, y: number, rows: number, cols: number, epsBits: number];
  rope_kv: [
    q: number,
    k: number,
    v: number,
    cos: number,
    sin: number,
    slots: number,
    keyPages: number,
    valuePages: number,
    keyScales: number,
    valueScales: number,
    tokens: number,
    heads: number,
    kvHeads: number,
    headDim: number,
    half: number,
    pageTokens: number,
    dtype: number,
  ];
  softcap: [x: number, count: number, capBits: number];
  top: [
    logits: number,
    temperatures: number,
    ids: number,
    values: number,
    totals: number,
    rows: number,
    cols: number,
    count: number,
    segmentCols: number,
  ];
}

/** up: 0 for none. */
type Gated = [gate: number, up: number, y: number, count: number];
type Attention = [
  q: number,
  keyPages: number,
  valuePages: number,
  keyScales: number,
  valueScales: number,
  positions: number,
  sequenceOf: number,
  pageTables: number,
  slopes: number,
  scratch: number,
  y: number,
  tokens: number,
  heads: number,
  kvHeads: number,
  headDim: number,
  pageTokens: number,
  maxPages: number,
  scaleBits: number,
  window: number,
  softcapBits: number,
  scoreStride: number,
  rowsOfScratch: number,
  dtype: number,
  gathered: number,
  capacity: number,
];
type Embed = [table: number, ids: number, y: number, count: number, cols: number, stride: number, scaleBits: number];
type Dense = [
  w: number,
  bias: number,
  x: number,
  y: number,
  tokens: number,
  rows: number,
  stride: number,
  scratch: number,
];
type Chunks = [
  q: number,
  tables: number,
  scale: number,
  zero: number,
  bias: number,
  groupOctets: number,
  x8: number,
  xScale: number,
  minusSum: number,
  y: number,
  tokens: number,
  rows: number,
  groups: number,
  octets: number,
  chunks: number,
  scratch: number,
  format: number,
];

export type KernelName = keyof KernelArguments;
/** A kernel with its arguments. */
export type KernelTask = { [Name in KernelName]: { name: Name; words: KernelArguments[Name] } }[KernelName];
/** Does `part` of `parts` of what the task says. */
type Kernel = (task: number, part: number, parts: number) => void;

export interface Kernels extends Record<KernelName, Kernel> {
  read_limit(x: number, bytes: number): number;
  dot_limit(seed: number, rounds: number): number;
  exp_f32(x: number, y: number, count: number): void;
  tanh_f32(x: number, y: number, count: number): void;
  publish(control: number, parts: number): number;
  settle(control: number, parts: number): void;
  await_task(control: number, part: number, seen: number, spins: number): number;
}

/** The export's place among its module's names: what one thread tells another. */
export function kernelOrder(kernels: Kernels): KernelName[] {
  return (Object.keys(kernels) as KernelName[]).sort();
}

const float = new Float32Array(1);
const word = new Int32Array(float.buffer);

export function floatBits(value: number): number {
  float[0] = value;
  return word[0]!;
}

/** Instantiates without compiling, as an edge isolate requires. Throws `internal` when the module is not a kernel set. */
export function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  if (typeof exports.linear_chunks !== 'function')
    throw new NibbleError({ code: 'internal', reason: 'the WebAssembly module is not a Nibble kernel set' });
  return exports as unknown as Kernels;
}
