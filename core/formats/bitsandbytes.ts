/** Bitsandbytes: a linear's weight from a checkpoint that bitsandbytes quantized, its tensors checked against each other. */
import type { Bnb4Absmax, Bnb4Weight, Int8Weight } from '../model/backend.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import type { Bnb4Type } from './nf4-fp4.ts';
import { parseQuantState, type QuantState } from './quant-state.ts';
import type { Dtype } from './safetensors-header.ts';
import { TensorReader, tensorName } from './tensor-reader.ts';

const ASKER = 'the quant_state asks';
const STATE_PARTS: Readonly<Record<Bnb4Type, string>> = {
  nf4: 'weight.quant_state.bitsandbytes__nf4',
  fp4: 'weight.quant_state.bitsandbytes__fp4',
};
/** quant_storage: the dtypes under which writers keep the packed bytes. */
const STORAGE: readonly Dtype[] = ['U8', 'I8', 'F16', 'BF16', 'F32', 'F64', 'I16', 'U16', 'I32', 'U32', 'I64', 'U64'];

/** What bitsandbytes made of the module; null: nothing, its weight is plain. */
export function bitsandbytesKindOf(checkpoint: CheckpointFiles, prefix: string): '4bit' | 'int8' | null {
  const has = (part: string) => checkpoint.has(tensorName(prefix, part));
  if (has(STATE_PARTS.nf4) || has(STATE_PARTS.fp4)) return '4bit';
  if (has('SCB') || checkpoint.tensors.get(tensorName(prefix, 'weight'))?.dtype === 'I8') return 'int8';
  // Packed bytes without their quant_state: let the reader say what is missing.
  if (checkpoint.tensors.get(tensorName(prefix, 'weight'))?.dtype === 'U8') return '4bit';
  return null;
}

/**
 * Reads prefix.weight (packed, of any quant_storage), .weight.absmax, .weight.quant_map, the quant_state blob, .weight.nested_absmax
 * and .weight.nested_quant_map where absmax is double quantized, and .bias where present. Throws `file_invalid` by tensor and rule.
 */
export async function readBnb4Weight(checkpoint: CheckpointFiles, prefix: string): Promise<Bnb4Weight> {
  const tensors = new TensorReader(checkpoint, prefix, ASKER);
  const state = await readQuantState(checkpoint, prefix);
  const { outFeatures, inFeatures, blockSize, quantType } = state;
  const entry = tensors.entry('weight', STORAGE);
  const wantedBytes = Math.ceil((outFeatures * inFeatures) / 2);
  if (entry.end - entry.begin !== wantedBytes)
    throw tensors.invalid(
      'weight',
      `has ${entry.end - entry.begin} packed bytes; [${outFeatures}, ${inFeatures}] at 4 bits needs ${wantedBytes}`,
    );
  const blocks = Math.ceil((outFeatures * inFeatures) / blockSize);
  return {
    kind: 'bnb4',
    outFeatures,
    inFeatures,
    quantType,
    blockSize,
    table: await readFinite(tensors, 'weight.quant_map', 16),
    absmax: await readAbsmax(tensors, state, blocks),
    bias: tensors.has('bias') ? await tensors.float('bias', [outFeatures]) : null,
    packed: new Uint8Array(await tensors.buffer(entry)),
  };
}

/** The module's quant_state: its shape, type and blocks. */
export async function readQuantState(checkpoint: CheckpointFiles, prefix: string): Promise<QuantState> {
  const tensors = new TensorReader(checkpoint, prefix, ASKER);
  const types = (['nf4', 'fp4'] as const).filter((type) => tensors.has(STATE_PARTS[type]));
  const [type] = types;
  if (type === undefined)
    throw tensors.invalid('weight', 'is packed, but there is no weight.quant_state.bitsandbytes__nf4 or __fp4 with it');
  if (types.length > 1) throw tensors.invalid('weight', 'has two quant_states, NF4 and FP4');
  const part = STATE_PARTS[type];
  return parseQuantState(new Uint8Array(await tensors.buffer(tensors.entry(part, ['U8']))), type, (rule) =>
    tensors.invalid(part, rule),
  );
}

async function readAbsmax(tensors: TensorReader, { nested }: QuantState, blocks: number): Promise<Bnb4Absmax> {
  if (nested === null) return { kind: 'plain', values: await readFinite(tensors, 'weight.absmax', blocks) };
  const entry = tensors.shaped('weight.absmax', ['U8'], [blocks]);
  return {
    kind: 'nested',
    codes: new Uint8Array(await tensors.buffer(entry)),
    table: await readFinite(tensors, 'weight.nested_quant_map', 256),
    nested: await readFinite(tensors, 'weight.nested_absmax', Math.ceil(blocks / nested.blockSize)),
    blockSize: nested.blockSize,
    offset: nested.offset,
  };
}

/** Reads prefix.weight [out, in] int8, .SCB [out] and .bias where present; weight_format must be 0 (row-major) where present. */
export async function readInt8Weight(
  checkpoint: CheckpointFiles,
  prefix: string,
  threshold: number,
): Promise<Int8Weight> {
  const tensors = new TensorReader(checkpoint, prefix, 'weight asks');
  const [outFeatures, inFeatures] = tensors.matrix('weight', tensors.entry('weight', ['I8']));
  if (outFeatures === 0 || inFeatures === 0)
    throw tensors.invalid('weight', `[${outFeatures}, ${inFeatures}] is empty`);
  if (tensors.has('weight_format')) {
    const entry = tensors.entry('weight_format', ['U8']);
    const [format] = entry.end - entry.begin === 1 ? new Uint8Array(await tensors.buffer(entry)) : [];
    if (format !== 0)
      throw tensors.invalid(
        'weight_format',
        `is ${format ?? `${entry.end - entry.begin} bytes`}; only 0, rows as they are, can be loaded: save the model again with a bitsandbytes of 2024 or later`,
      );
  }
  return {
    kind: 'int8',
    outFeatures,
    inFeatures,
    rowAbsmax: await readFinite(tensors, 'SCB', outFeatures),
    threshold,
    bias: tensors.has('bias') ? await tensors.float('bias', [outFeatures]) : null,
    values: await tensors.int8('weight', [outFeatures, inFeatures]),
  };
}

/** [length] f32, none of them infinite or no number. */
async function readFinite(tensors: TensorReader, part: string, length: number): Promise<Float32Array> {
  const entry = tensors.shaped(part, ['F32'], [length]);
  const values = new Float32Array(await tensors.buffer(entry));
  const broken = values.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0) throw tensors.invalid(part, `holds ${values[broken]} at ${broken}`);
  return values;
}
