/** Plain: a linear's unquantized weight and bias from a checkpoint. */
import type { DenseWeight, GptqWeight } from '../model/backend.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import { type HeadBits, requantizeTable, type TableRows } from './requantize.ts';
import { floatDtypeOf, TensorReader } from './tensor-reader.ts';

export interface LinearShape {
  outFeatures: number;
  inFeatures: number;
  /** Whether prefix.bias must be there, may be there, or is not looked for. */
  bias: 'required' | 'optional' | 'none';
}

/** Reads prefix.weight [out, in] in f32, f16 or bf16, and prefix.bias [out]. Throws `file_invalid` by tensor and rule. */
export async function readPlainWeight(
  checkpoint: CheckpointFiles,
  prefix: string,
  shape: LinearShape,
): Promise<DenseWeight> {
  const { outFeatures, inFeatures } = shape;
  const tensors = new TensorReader(checkpoint, prefix, 'config.json asks');
  const entry = tensors.shaped('weight', ['F32', 'F16', 'BF16'], [outFeatures, inFeatures]);
  const dtype = floatDtypeOf(entry);
  const bytes = await checkpoint.read(entry.name);
  return { kind: 'dense', outFeatures, inFeatures, dtype, bytes, bias: await readBias(checkpoint, prefix, shape) };
}

/** An embedding or head, prefix.weight [out, in]: as it is at 16 bits, else requantized while it is read. */
export async function readTable(
  checkpoint: CheckpointFiles,
  prefix: string,
  { outFeatures, inFeatures }: Pick<LinearShape, 'outFeatures' | 'inFeatures'>,
  bits: HeadBits,
): Promise<DenseWeight | GptqWeight> {
  if (bits === 16) return readPlainWeight(checkpoint, prefix, { outFeatures, inFeatures, bias: 'none' });
  return requantizeTable(plainRows(checkpoint, prefix, { outFeatures, inFeatures }), bits);
}

/** prefix.weight [out, in] in f32, f16 or bf16, to be read some rows at a time. */
export function plainRows(
  checkpoint: CheckpointFiles,
  prefix: string,
  { outFeatures, inFeatures }: Pick<LinearShape, 'outFeatures' | 'inFeatures'>,
): TableRows {
  const tensors = new TensorReader(checkpoint, prefix, 'config.json asks');
  const entry = tensors.shaped('weight', ['F32', 'F16', 'BF16'], [outFeatures, inFeatures]);
  const { name } = entry;
  const dtype = floatDtypeOf(entry);
  const rowBytes = (entry.end - entry.begin) / outFeatures;
  const read = (first: number, count: number) => checkpoint.readRange(name, first * rowBytes, count * rowBytes);
  return { name, file: checkpoint.name, outFeatures, inFeatures, dtype, read };
}

/** prefix.bias [out] as f32; null when it is absent and may be. */
export async function readBias(
  checkpoint: CheckpointFiles,
  prefix: string,
  { outFeatures, bias }: LinearShape,
): Promise<Float32Array | null> {
  const tensors = new TensorReader(checkpoint, prefix, 'config.json asks');
  if (bias === 'none' || (bias === 'optional' && !tensors.has('bias'))) return null;
  return tensors.float('bias', [outFeatures]);
}
