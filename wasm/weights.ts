/** Weights: matrices in the kernels' memory, each checkpoint layout by its own file. Tensor by tensor, straight into place. */
import { NibbleError } from '../core/errors.ts';
import type { LinearWeight } from '../core/model/backend.ts';
import type { KernelMemory } from './memory.ts';
import { expectLength } from './tensors.ts';
import { type Bnb4Linear, loadBnb4 } from './weights/bnb4.ts';
import { type DenseLinear, loadDense } from './weights/dense.ts';
import { type GptqLinear, loadGptq } from './weights/gptq.ts';
import { type Int8Linear, loadInt8 } from './weights/int8.ts';

export type WasmLinear = DenseLinear | GptqLinear | Bnb4Linear | Int8Linear;

/** Copies and repacks `weight`. Throws `model_unsupported` for what the kernels cannot run, `file_invalid` for values they cannot hold. */
export function loadWeight(memory: KernelMemory, weight: LinearWeight, label: string): WasmLinear {
  if (weight.bias !== null) expectLength(label, 'bias', weight.bias.length, weight.outFeatures);
  switch (weight.kind) {
    case 'dense':
      return loadDense(memory, weight, label);
    case 'gptq':
      return loadGptq(memory, weight, label);
    case 'bnb4':
      return loadBnb4(memory, weight, label);
    case 'int8':
      return loadInt8(memory, weight, label);
    default:
      return weight satisfies never;
  }
}

/** The weight as an embedding table. Throws `model_unsupported` for layouts that no checkpoint has for one. */
export function embeddingTable(weight: WasmLinear): DenseLinear | GptqLinear {
  if (weight.kind === 'dense' || weight.kind === 'gptq') return weight;
  throw new NibbleError({
    code: 'model_unsupported',
    file: `embedding table [${weight.outFeatures}, ${weight.inFeatures}]`,
    option: weight.kind,
    reason: 'the wasm backend embeds from dense and gptq tables',
  });
}
