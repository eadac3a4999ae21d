/** Linear: matrix products on the kernels. Weights that take their activations quantized alike share the quantization. */
import type { Activation } from '../core/model/backend.ts';
import { floatBits } from './kernels.ts';
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
}

/** Each weight's x · Wᵀ + bias, as activations. */
export function runLinears(space: Workspace, x: Activation, weights: readonly WasmLinear[]): Activation[] {
  const input = { address: space.addressOf(x), tokens: x.rows };
  const outputs = weights.map((weight) => space.activation(x.rows, weight.outFeatures));
  const mark = space.memory.mark;
  const quantized = new Map<string, QuantizedRows>();
  weights.forEach((weight, i) => {
    runLinear(space, weight, input, outputs[i]!.address, quantized);
  });
  space.memory.release(mark);
  return outputs;
}

function runLinear(
  space: Workspace,
  weight: WasmLinear,
  x: Input,
  y: number,
  quantized: Map<string, QuantizedRows>,
): void {
  switch (weight.kind) {
    case 'dense':
      dense(space, weight, x, y);
      return;
    case 'gptq':
      gptq(space, weight, x, y, quantized);
      return;
    case 'bnb4':
      bnb4(space, weight, x, y, quantized);
      return;
    case 'int8':
      int8(space, weight, x, y);
      return;
    default:
      weight satisfies never;
  }
}

function dense({ team, memory }: Workspace, weight: DenseLinear, { address, tokens }: Input, y: number): void {
  const { inFeatures, outFeatures, stride, weights, bias, dtype } = weight;
  let padded = address;
  if (stride !== inFeatures) {
    padded = memory.scratch(tokens * stride * 4);
    team.run('pad_rows', address, padded, tokens, inFeatures, stride);
  }
  const scratch = dtype === 'f16' && tokens > 1 ? memory.scratch(team.threads * stride * 16) : 0;
  team.run(`linear_dense_${dtype}`, weights, bias, padded, y, tokens, outFeatures, stride, scratch);
}

function gptq(space: Workspace, weight: GptqLinear, x: Input, y: number, quantized: Map<string, QuantizedRows>): void {
  const { bits, q, scales, zeros, bias, plan, outFeatures } = weight;
  const grid: Grid =
    bits === 8
      ? { width: 'wide', levels: WIDE_LEVELS, factor: HALF_SCALE_FACTOR }
      : { ...narrowest(space), factor: HALF_SCALE_FACTOR };
  const { x8, xScale, minusSum } = quantizedFor(space, weight, x, grid, quantized);
  const { groupOctets, groups, octets, chunks } = plan;
  const scratch = unpackingScratch(space, plan, x);
  const shape = [x.tokens, outFeatures, groups, octets, chunks, scratch, bits] as const;
  space.team.run(
    'linear_chunks',
    ...([q, 0, scales, zeros ?? 0, bias, groupOctets, x8, xScale, minusSum, y] as const),
    ...shape,
  );
}

function bnb4(space: Workspace, weight: Bnb4Linear, x: Input, y: number, quantized: Map<string, QuantizedRows>): void {
  const { inFeatures, outFeatures, layout, bias } = weight;
  if (layout.kind === 'blocks') {
    const { codes, table, absmax, blockSize } = layout;
    const shape = [x.tokens, outFeatures, inFeatures, blockSize] as const;
    space.team.run('linear_bnb4_blocks', codes, table, absmax, bias, x.address, y, ...shape);
    return;
  }
  const { plan, q, tables, scales } = layout;
  const grid: Grid = {
    ...(x.tokens < TILE_TOKENS ? narrowest(space) : { width: 'wide', levels: NARROW_LEVELS }),
    factor: 1,
  };
  const { x8, xScale, minusSum } = quantizedFor(space, { inFeatures, plan }, x, grid, quantized);
  const { groupOctets, groups, octets, chunks } = plan;
  const scratch = unpackingScratch(space, plan, x);
  const shape = [x.tokens, outFeatures, groups, octets, chunks, scratch, TABLE_FORMAT] as const;
  space.team.run(
    'linear_chunks',
    ...([q, tables, scales, 0, bias, groupOctets, x8, xScale, minusSum, y] as const),
    ...shape,
  );
}

/** assembly/chunk_format.ts, TABLE. */
const TABLE_FORMAT = 16;

/** Tokens from which kernels over chunks unpack a block of weights for all of them, and that go together then: assembly/tile.ts. */
const TILE_TOKENS = 4;

/** A block as assembly/unpack_block.ts unpacks it and a tile's sums, for each thread. */
function unpackingScratch({ memory, team }: Workspace, { groups, octets }: PlacedPlan, { tokens }: Input): number {
  return tokens < TILE_TOKENS ? 0 : memory.scratch(team.threads * (groups * 64 + octets * 128 + 128));
}

/** How activations are rounded: octets as assembly/dot.ts takes them, narrow i8 or wide i16, integers up to ±levels in them, and a power of two in their scale. */
interface Grid {
  width: 'narrow' | 'wide';
  levels: number;
  factor: number;
}

const NARROW_LEVELS = 127;
/** The most whose sum over a chunk of 32 fits 16 bits. */
const WIDE_LEVELS = 1023;
/** What kernels with f16 scales want: assembly/chunk_format.ts, scale4. */
const HALF_SCALE_FACTOR = 2 ** 64;

/** The plain build has only wide octets; the same levels keep its bits those of the relaxed one. */
function narrowest({ variant }: Workspace): Pick<Grid, 'width' | 'levels'> {
  return { width: variant === 'relaxed' ? 'narrow' : 'wide', levels: NARROW_LEVELS };
}

/** Addresses of what quantize_rows wrote. */
interface QuantizedRows {
  x8: number;
  xScale: number;
  minusSum: number;
}

/** Quantizes the input by the plan, unless a weight before had it done. */
function quantizedFor(
  { memory, team }: Workspace,
  { plan, inFeatures }: { plan: PlacedPlan; inFeatures: number },
  { address, tokens }: Input,
  { width, levels, factor }: Grid,
  quantized: Map<string, QuantizedRows>,
): QuantizedRows {
  const key = `${width} ${levels} ${factor} ${plan.activationOrder}`;
  const known = quantized.get(key);
  if (known !== undefined) return known;
  const { groups, octets, chunks, groupOctets, channels } = plan;
  const isWide = width === 'wide';
  const together = tokens < TILE_TOKENS ? 1 : TILE_TOKENS;
  const padded = Math.ceil(tokens / together) * together;
  const rows: QuantizedRows = {
    x8: memory.scratch(padded * octets * (isWide ? 16 : 8)),
    xScale: memory.scratch(padded * chunks * 4),
    minusSum: memory.scratch(padded * chunks * 4),
  };
  const gathered = channels === null ? 0 : memory.scratch(team.threads * octets * 32);
  const to = [rows.x8, rows.xScale, rows.minusSum, gathered] as const;
  const shape = [tokens, inFeatures, octets, groups, chunks] as const;
  const grid = [floatBits(levels), isWide ? 1 : 0, floatBits(factor), together] as const;
  team.run('quantize_rows', address, channels ?? 0, groupOctets, ...to, ...shape, ...grid);
  quantized.set(key, rows);
  return rows;
}

function int8({ team, memory }: Workspace, weight: Int8Linear, { address: x, tokens }: Input, y: number): void {
  const { inFeatures, outFeatures, octets, q, scales, bias, threshold } = weight;
  const x8 = memory.scratch(tokens * octets * 16);
  const xScale = memory.scratch(tokens * 4);
  const minusSum = memory.scratch(tokens * 4);
  const outliers = memory.scratch(tokens * inFeatures * 4);
  const outlierCount = memory.scratch(tokens * 4);
  const kept = memory.scratch(team.threads * octets * 32);
  const rows = [x8, xScale, minusSum, outliers, outlierCount] as const;
  team.run('quantize_tokens', x, ...rows, kept, tokens, inFeatures, octets, floatBits(threshold));
  team.run('linear_int8', q, scales, bias, x, ...rows, y, tokens, outFeatures, inFeatures, octets);
}
