/** Linear: matrix products on the kernels. Weights that take their activations quantized alike share the quantization. */
import type { Activation, Linear } from '../core/model/backend.ts';
import { floatBits, type KernelTask } from './kernels.ts';
import { MAX_TOGETHER } from './team.ts';
import type { Bnb4Linear } from './weights/bnb4.ts';
import type { PlacedPlan } from './weights/chunk-plan.ts';
import type { DenseLinear } from './weights/dense.ts';
import type { GptqLinear } from './weights/gptq.ts';
import type { Int8Linear } from './weights/int8.ts';
import type { WasmLinear } from './weights.ts';
import type { Workspace } from './workspace.ts';

/** x [tokens, in] f32 at an address. */
interface Input {
  address: number;
  tokens: number;
  /** As the weights so far wanted it. */
  quantized: QuantizedRows[];
}

/** Each weight's x · Wᵀ + bias, as activations. */
export function runLinears(space: Workspace, x: Activation, weights: readonly WasmLinear[]): Activation[] {
  const input: Input = { address: space.addressOf(x), tokens: x.rows, quantized: [] };
  const outputs = weights.map((weight) => space.activation(x.rows, weight.outFeatures));
  const mark = space.memory.mark;
  const products = weights.map((weight, i) => prepareLinear(space, weight, input, outputs[i]!.address));
  for (let first = 0; first < products.length; first += MAX_TOGETHER)
    space.team.runTogether(products.slice(first, first + MAX_TOGETHER));
  space.memory.release(mark);
  return outputs;
}

/** Runs what the product needs, and returns the product's own task. */
function prepareLinear(space: Workspace, weight: WasmLinear, x: Input, y: number): KernelTask {
  switch (weight.kind) {
    case 'dense':
      return dense(space, weight, x, y);
    case 'gptq':
      return gptq(space, weight, x, y);
    case 'bnb4':
      return bnb4(space, weight, x, y);
    case 'int8':
      return int8(space, weight, x, y);
    default:
      return weight satisfies never;
  }
}

function dense({ team, memory }: Workspace, weight: DenseLinear, { address, tokens }: Input, y: number): KernelTask {
  const { inFeatures, outFeatures, stride, weights, bias, dtype } = weight;
  let padded = address;
  if (stride !== inFeatures) {
    padded = memory.scratch(tokens * stride * 4);
    team.run('pad_rows', address, padded, tokens, inFeatures, stride);
  }
  const scratch = dtype === 'f16' && tokens > 1 ? memory.scratch(team.threads * stride * 16) : 0;
  return { name: `linear_dense_${dtype}`, words: [weights, bias, padded, y, tokens, outFeatures, stride, scratch] };
}

function gptq(space: Workspace, weight: GptqLinear, x: Input, y: number): KernelTask {
  const { bits, q, scales, zeros, plan, bias } = weight;
  const narrow = bits !== 8 && space.variant === 'relaxed';
  const grid = bits === 8 ? GRIDS.wide : narrow ? GRIDS.narrow : GRIDS.plain;
  return chunks(space, { format: bits, q, tables: 0, scales, zeros: zeros ?? 0, bias, plan }, weight, grid, x, y);
}

function bnb4(space: Workspace, weight: Bnb4Linear, x: Input, y: number): KernelTask {
  const { inFeatures, outFeatures, layout, bias } = weight;
  if (layout.kind === 'blocks') {
    const { codes, table, absmax, blockSize } = layout;
    return {
      name: 'linear_bnb4_blocks',
      words: [codes, table, absmax, bias, x.address, y, x.tokens, outFeatures, inFeatures, blockSize],
    };
  }
  const { q, tables, scales, plan } = layout;
  const narrow = x.tokens < TILE_TOKENS && space.variant === 'relaxed';
  const grid = narrow ? GRIDS.tableNarrow : GRIDS.tableWide;
  return chunks(space, { format: TABLE_FORMAT, q, tables, scales, zeros: 0, bias, plan }, weight, grid, x, y);
}

/** assembly/chunk_format.ts, TABLE. */
const TABLE_FORMAT = 16;
/** Tokens from which kernels over chunks unpack a block of weights for all of them, and that go together then: assembly/tile.ts. */
const TILE_TOKENS = 4;
const NARROW_TILE_TOKENS = 6;

/** What linear_chunks takes of a weight. */
interface ChunkWeight {
  format: number;
  q: number;
  tables: number;
  scales: number;
  zeros: number;
  bias: number;
  plan: PlacedPlan;
}

function chunks(
  space: Workspace,
  { format, q, tables, scales, zeros, bias, plan }: ChunkWeight,
  { inFeatures, outFeatures }: Linear,
  grid: Grid,
  x: Input,
  y: number,
): KernelTask {
  const { x8, xScale, minusSum } = quantizedFor(space, plan, inFeatures, x, grid);
  const { groups, octets, groupOctets } = plan;
  // A block as assembly/unpack_block.ts unpacks it and a tile's sums, for each thread.
  const unpackedBytes = groups * 64 + octets * 128 + 192;
  const scratch = x.tokens < TILE_TOKENS ? 0 : space.memory.scratch(space.team.threads * unpackedBytes);
  // biome-ignore format: in the kernel's order
  return {
    name: 'linear_chunks',
    words: [q, tables, scales, zeros, bias, groupOctets, x8, xScale, minusSum, y, x.tokens, outFeatures, groups, octets, plan.chunks, scratch, format],
  };
}

/** How activations are rounded: octets as assembly/dot.ts takes them, narrow i8 or wide i16, integers up to ±levels in them, and a power of two in their scale. */
interface Grid {
  width: 'narrow' | 'wide';
  levels: number;
  factor: number;
}

/** The plain build has only wide octets; the same levels keep its bits those of the relaxed one. */
const NARROW_LEVELS = 127;
/** The most whose sum over a chunk of 32 fits 16 bits. */
const WIDE_LEVELS = 1023;
/** What kernels with f16 scales want: assembly/chunk_format.ts, scale4. */
const HALF_SCALE_FACTOR = 2 ** 64;

const GRIDS = {
  narrow: { width: 'narrow', levels: NARROW_LEVELS, factor: HALF_SCALE_FACTOR },
  plain: { width: 'wide', levels: NARROW_LEVELS, factor: HALF_SCALE_FACTOR },
  wide: { width: 'wide', levels: WIDE_LEVELS, factor: HALF_SCALE_FACTOR },
  tableNarrow: { width: 'narrow', levels: NARROW_LEVELS, factor: 1 },
  tableWide: { width: 'wide', levels: NARROW_LEVELS, factor: 1 },
} as const satisfies Record<string, Grid>;

/** What quantize_rows wrote, where, and how. */
interface QuantizedRows {
  grid: Grid;
  activationOrder: string;
  x8: number;
  xScale: number;
  minusSum: number;
}

/** Quantizes the input by the plan, unless a weight before had it done. */
function quantizedFor({ memory, team }: Workspace, plan: PlacedPlan, cols: number, x: Input, grid: Grid) {
  const { groups, octets, groupOctets, channels, activationOrder } = plan;
  for (const known of x.quantized) if (known.grid === grid && known.activationOrder === activationOrder) return known;
  const isWide = grid.width === 'wide';
  const together = x.tokens < TILE_TOKENS ? 1 : isWide ? TILE_TOKENS : NARROW_TILE_TOKENS;
  const tokens = Math.ceil(x.tokens / together) * together;
  const rows: QuantizedRows = {
    grid,
    activationOrder,
    x8: memory.scratch(tokens * octets * (isWide ? 16 : 8)),
    xScale: memory.scratch(tokens * plan.chunks * 4),
    minusSum: memory.scratch(tokens * plan.chunks * 4),
  };
  const gathered = channels === null ? 0 : memory.scratch(team.threads * octets * 32);
  team.run(
    'quantize_rows',
    x.address,
    channels ?? 0,
    groupOctets,
    rows.x8,
    rows.xScale,
    rows.minusSum,
    gathered,
    x.tokens,
    cols,
    octets,
    groups,
    plan.chunks,
    floatBits(grid.levels),
    isWide ? 1 : 0,
    floatBits(grid.factor),
    together,
  );
  x.quantized.push(rows);
  return rows;
}

function int8({ team, memory }: Workspace, weight: Int8Linear, { address: x, tokens }: Input, y: number): KernelTask {
  const { inFeatures, outFeatures, octets, q, scales, bias, threshold } = weight;
  const x8 = memory.scratch(tokens * octets * 16);
  const xScale = memory.scratch(tokens * 4);
  const minusSum = memory.scratch(tokens * 4);
  const outliers = memory.scratch(tokens * inFeatures * 4);
  const outlierCount = memory.scratch(tokens * 4);
  const kept = memory.scratch(team.threads * octets * 32);
  const rows = [x8, xScale, minusSum, outliers, outlierCount] as const;
  team.run('quantize_tokens', x, ...rows, kept, tokens, inFeatures, octets, floatBits(threshold));
  return { name: 'linear_int8', words: [q, scales, bias, x, ...rows, y, tokens, outFeatures, inFeatures, octets] };
}
