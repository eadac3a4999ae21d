/** Quant state: the JSON blob in which bitsandbytes keeps what is no tensor of a 4-bit weight. */
import { z } from 'zod';
import type { Bnb4Type } from './nf4-fp4.ts';

/** Writers need about 250 bytes. */
export const MAX_QUANT_STATE_BYTES = 10_000;
/** A matrix of this many rows or columns is far above any published one; a product of two stays below 2^53. */
const dimension = z.int().min(1).max(4_000_000);
/** What quantize_4bit and quantize_blockwise allow. */
const blockSize = z.literal([32, 64, 128, 256, 512, 1024, 2048, 4096]);

const QuantStateJson = z.object({
  quant_type: z.enum(['nf4', 'fp4']),
  blocksize: blockSize,
  dtype: z.enum(['float32', 'float16', 'bfloat16']),
  shape: z.tuple([dimension, dimension]),
  nested_blocksize: blockSize.nullish(),
  nested_dtype: z.literal('float32').nullish(),
  /** Within f32. */
  nested_offset: z.number().min(-3e38).max(3e38).nullish(),
});

export interface QuantState {
  quantType: Bnb4Type;
  blockSize: number;
  outFeatures: number;
  inFeatures: number;
  /** null: absmax is plain. */
  nested: { blockSize: number; offset: number } | null;
}

/** `type` is how the tensor's name ends; the blob must agree. What is wrong with it is thrown through `invalid`. */
export function parseQuantState(bytes: Uint8Array, type: Bnb4Type, invalid: (rule: string) => Error): QuantState {
  if (bytes.byteLength > MAX_QUANT_STATE_BYTES)
    throw invalid(`has ${bytes.byteLength} bytes, over the ${MAX_QUANT_STATE_BYTES} that such a blob may have`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch (error) {
    throw invalid(`is not JSON: ${(error as Error).message}`);
  }
  const parsed = QuantStateJson.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(`${issue?.path.join('.') || 'the blob'}: ${issue?.message}`);
  }
  const state = parsed.data;
  if (state.quant_type !== type) throw invalid(`says quant_type "${state.quant_type}"; its name says ${type}`);
  const [outFeatures, inFeatures] = state.shape;
  const { nested_blocksize: nestedBlockSize, nested_offset: offset } = state;
  if ((nestedBlockSize == null) !== (offset == null))
    throw invalid('has one of nested_blocksize and nested_offset without the other');
  return {
    quantType: type,
    blockSize: state.blocksize,
    outFeatures,
    inFeatures,
    // An f32 that went through JSON; another number would not have come from bitsandbytes, and is rounded.
    nested: nestedBlockSize == null ? null : { blockSize: nestedBlockSize, offset: Math.fround(offset!) },
  };
}
