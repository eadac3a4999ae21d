/** Dense: a plain matrix in the kernels' memory, rows padded to whole tiles. */
import type { DenseWeight, Linear } from '../../core/model/backend.ts';
import type { KernelMemory } from '../memory.ts';
import { expectLength } from '../tensors.ts';
import { expectFinite, placeBias } from './parts.ts';

export interface DenseLinear extends Linear {
  kind: 'dense';
  memory: KernelMemory;
  dtype: 'f32' | 'f16';
  /** [⌈out/4⌉·4, stride] f32 or f16 */
  weights: number;
  /** [⌈out/4⌉·4] f32, zeros without a bias */
  bias: number;
  /** ⌈in/4⌉·4 */
  stride: number;
}

/** f16 stays, bf16 becomes f32. */
export function loadDense(memory: KernelMemory, weight: DenseWeight, label: string): DenseLinear {
  const { outFeatures, inFeatures, bytes } = weight;
  const sourceBytes = weight.dtype === 'f32' ? 4 : 2;
  expectLength(label, `${weight.dtype} bytes`, bytes.length, outFeatures * inFeatures * sourceBytes);
  const dtype = weight.dtype === 'f16' ? 'f16' : 'f32';
  const stride = Math.ceil(inFeatures / 4) * 4;
  const rows = Math.ceil(outFeatures / 4) * 4;
  const rowBytes = stride * (dtype === 'f16' ? 2 : 4);
  const weights = memory.permanent(rows * rowBytes, label);
  const bias = placeBias(memory, weight.bias, rows, label);
  const target = memory.u8(weights, rows * rowBytes);
  const isAsItIs = weight.dtype !== 'bf16' && stride === inFeatures;
  if (isAsItIs) target.set(bytes);
  for (let row = 0; row < (isAsItIs ? 0 : outFeatures); row++) {
    const source = bytes.subarray(row * inFeatures * sourceBytes, (row + 1) * inFeatures * sourceBytes);
    if (weight.dtype === 'bf16') {
      // A bf16 is the upper half of its f32.
      for (let k = 0, at = row * rowBytes + 2; k < source.length; k += 2, at += 4) {
        target[at] = source[k]!;
        target[at + 1] = source[k + 1]!;
      }
    } else target.set(source, row * rowBytes);
  }
  if (dtype === 'f16') expectFinite(label, memory.u16(weights, rows * stride));
  return {
    kind: 'dense',
    memory,
    outFeatures,
    inFeatures,
    bytes: rows * (rowBytes + 4),
    dtype,
    weights,
    bias,
    stride,
  };
}
