/** GpuLinear: a weight as the linear kernels read it, in parts that each fit a binding. */
import type { Linear, LinearWeight } from '../../../core/model/backend.ts';
import type { Params } from '../gpu.ts';
import type { Defines } from '../kernel-source.ts';

export interface GpuLinear extends Linear {
  readonly kind: LinearWeight['kind'];
  /** What its kernels' sources depend on: the format's variant. */
  readonly defines: Defines;
  /** Chunks of 32 channels in a row, padding included. */
  readonly chunks: number;
  /** Four-channel pieces that a thread of the GEMV takes at a time: 16 bytes of a row, or fewer. */
  readonly pieces: number;
  readonly input: LinearInput;
  /** How few tokens are multiplied in f16 where the adapter has it; null: in f32 all the same. */
  readonly halves: HalvesForm | null;
  parts: readonly WeightPart[];
  /** How it is laid out with others of its input; null where that cannot be. */
  readonly joins: Joins | null;
  /** [outFeatures] f32 */
  readonly bias: GPUBuffer | null;
}

export interface Joins {
  /** Equal for weights whose other buffers hold the same. */
  key: string;
  /** Buffers of its one part that go one after another, and how many bytes of each are in use. */
  appended: readonly { buffer: number; bytes: number }[];
}

/** ORDER and LARGEST of prepare_halves.wgsl. */
export interface HalvesForm {
  order: 0 | 2 | 3 | 4 | 8;
  largest: number;
}

/** What the kernels take for x. */
export type LinearInput =
  /** x itself: its rows are whole chunks. */
  | { kind: 'plain' }
  /** Gathered by `channels` [chunks·32] u32, or only padded. */
  | { kind: 'channels'; channels: GPUBuffer | null }
  /** Rounded to integers, a token at a time. */
  | { kind: 'int8'; threshold: number };

export interface WeightPart {
  /** Its rows are outputs first.. of the weight; a multiple of four unless it is the last. */
  first: number;
  rows: number;
  /** In the order of the format's bindings. */
  buffers: GPUBuffer[];
  /** [rows][2] f32 of linear_row_factors.wgsl; null where no kernel wants them. */
  rowFactors: GPUBuffer | null;
  /** Of linear_params.wgsl, what depends on the weight. */
  params: Params;
}
