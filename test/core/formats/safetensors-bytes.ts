/** Safetensors bytes: builds files for the tests, well-formed or broken on purpose. */

/** 8-byte length, header text, data. `claimedLength` overrides the true header length. */
export function fileOf(header: string, dataBytes: number, claimedLength?: number | bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(claimedLength ?? text.length), true);
  file.set(text, 8);
  for (let i = 0; i < dataBytes; i++) file[8 + text.length + i] = i & 0xff;
  return file;
}

export interface NamedTensor {
  name: string;
  dtype: string;
  shape: number[];
  bytes: ArrayBufferView;
}

/** A valid file of these tensors, in this order. */
export function fileOfTensors(tensors: NamedTensor[], metadata: Record<string, string> = {}): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.byteLength] };
    offset += bytes.byteLength;
  }
  const file = fileOf(JSON.stringify(header), offset);
  let at = file.length - offset;
  for (const { bytes } of tensors) {
    file.set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength), at);
    at += bytes.byteLength;
  }
  return file;
}
