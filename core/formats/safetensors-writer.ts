/** Safetensors writer: the header of a file whose tensors follow; the caller streams them in the order given here. */
import { NibbleError } from '../errors.ts';
import { MAX_HEADER_BYTES } from './safetensors.ts';
import { DTYPE_BITS, type Dtype } from './safetensors-header.ts';

export interface PlannedTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

export interface FilePlan<Tensor extends PlannedTensor> {
  /** The file's beginning: length, header, padding. */
  header: Uint8Array;
  /** In the order in which their bytes must follow. */
  tensors: readonly (Tensor & { bytes: number })[];
  /** Of the whole file. */
  totalBytes: number;
}

/** Widest elements first, then by name, as the reference implementation orders them: so every tensor begins at a multiple of its element. */
export function planSafetensors<Tensor extends PlannedTensor>(
  tensors: readonly Tensor[],
  metadata: Readonly<Record<string, string>>,
  file: string,
): FilePlan<Tensor> {
  const ordered = tensors
    .map((tensor) => ({ ...tensor, bytes: bytesOf(tensor) }))
    .sort((a, b) => DTYPE_BITS[b.dtype] - DTYPE_BITS[a.dtype] || (a.name < b.name ? -1 : 1));
  // Without a prototype, a tensor may even be called __proto__.
  const header: Record<string, unknown> = Object.assign(Object.create(null), { __metadata__: metadata });
  let offset = 0;
  for (const { name, dtype, shape, bytes } of ordered) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(text.length / 8) * 8;
  if (length > MAX_HEADER_BYTES)
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: null,
      rule: `would have a header of ${length} bytes, over the format's ${MAX_HEADER_BYTES}`,
    });
  const begin = new Uint8Array(8 + length).fill(0x20);
  new DataView(begin.buffer).setBigUint64(0, BigInt(length), true);
  begin.set(text, 8);
  return { header: begin, tensors: ordered, totalBytes: begin.length + offset };
}

function bytesOf({ dtype, shape }: PlannedTensor): number {
  return (shape.reduce((product, size) => product * size, 1) * DTYPE_BITS[dtype]) / 8;
}
