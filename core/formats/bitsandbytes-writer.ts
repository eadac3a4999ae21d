/** Bitsandbytes writer: a quantized linear as the tensors that bitsandbytes and transformers save, and our reader loads. */
import type { Bnb4Weight, Int8Weight } from '../model/backend.ts';
import type { BitsandbytesMethod } from './quantize-linear.ts';
import type { PlannedTensor } from './safetensors-writer.ts';
import { tensorName } from './tensor-reader.ts';

export interface WrittenTensor extends PlannedTensor {
  bytes: Uint8Array;
}

/** `dtype` is that of the weight before it was quantized. The bias is not among them: it stays the checkpoint's own tensor. */
export function bitsandbytesTensors(
  prefix: string,
  weight: Bnb4Weight | Int8Weight,
  dtype: 'f32' | 'f16' | 'bf16',
): WrittenTensor[] {
  const tensor = (part: string, dtype: PlannedTensor['dtype'], shape: readonly number[], values: ArrayBufferView) => ({
    name: tensorName(prefix, part),
    dtype,
    shape,
    bytes: new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength),
  });
  if (weight.kind === 'int8')
    return [
      tensor('weight', 'I8', [weight.outFeatures, weight.inFeatures], weight.values),
      tensor('SCB', 'F32', [weight.outFeatures], weight.rowAbsmax),
      // 0: rows as they are.
      tensor('weight_format', 'U8', [], Uint8Array.of(0)),
    ];
  const { outFeatures, inFeatures, quantType, blockSize, packed, table, absmax } = weight;
  const state = {
    quant_type: quantType,
    blocksize: blockSize,
    dtype: { f32: 'float32', f16: 'float16', bf16: 'bfloat16' }[dtype],
    shape: [outFeatures, inFeatures],
    ...(absmax.kind === 'plain'
      ? {}
      : { nested_blocksize: absmax.blockSize, nested_dtype: 'float32', nested_offset: absmax.offset }),
  };
  const blob = new TextEncoder().encode(JSON.stringify(state));
  return [
    tensor('weight', 'U8', [packed.length, 1], packed),
    tensor('weight.quant_map', 'F32', [table.length], table),
    tensor(`weight.quant_state.bitsandbytes__${quantType}`, 'U8', [blob.length], blob),
    ...(absmax.kind === 'plain'
      ? [tensor('weight.absmax', 'F32', [absmax.values.length], absmax.values)]
      : [
          tensor('weight.absmax', 'U8', [absmax.codes.length], absmax.codes),
          tensor('weight.nested_absmax', 'F32', [absmax.nested.length], absmax.nested),
          tensor('weight.nested_quant_map', 'F32', [absmax.table.length], absmax.table),
        ]),
  ];
}

/**
 * config.json's quantization_config for such a checkpoint, as transformers writes it. The threshold is left to its default, 6:
 * transformers takes no number without a decimal point there, and JSON.stringify writes none with one.
 */
export function bitsandbytesConfig(method: BitsandbytesMethod): Record<string, unknown> {
  return {
    quant_method: 'bitsandbytes',
    load_in_8bit: method === 'int8',
    load_in_4bit: method !== 'int8',
    ...(method === 'int8'
      ? {}
      : { bnb_4bit_quant_type: method, bnb_4bit_use_double_quant: true, bnb_4bit_quant_storage: 'uint8' }),
  };
}
