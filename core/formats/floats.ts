/** Floats: a checkpoint's little-endian float tensors as f32. */
import { bf16IntoF32, bf16ToF32Array, f16IntoF32, f16ToF32Array } from './half.ts';

export type FloatDtype = 'f32' | 'f16' | 'bf16';

/** A copy; exact, because every f16 and bf16 is an f32. `bytes` may start anywhere in its buffer. */
export function floatsOf(bytes: Uint8Array, dtype: FloatDtype): Float32Array {
  // Typed arrays need an aligned start.
  return floatsIn(bytes.slice().buffer, dtype);
}

/** The same into `values`, which is as long. */
export function readFloats(bytes: Uint8Array, dtype: FloatDtype, values: Float32Array): void {
  const { buffer, byteOffset } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  switch (dtype) {
    case 'f32':
      values.set(new Float32Array(buffer, byteOffset, values.length));
      return;
    case 'f16':
      f16IntoF32(new Uint16Array(buffer, byteOffset, values.length), values);
      return;
    case 'bf16':
      bf16IntoF32(new Uint16Array(buffer, byteOffset, values.length), values);
      return;
    default:
      dtype satisfies never;
  }
}

/** The same of a whole buffer, which f32 shares instead of copying. */
export function floatsIn(buffer: ArrayBuffer, dtype: FloatDtype): Float32Array {
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer);
    case 'f16':
      return f16ToF32Array(new Uint16Array(buffer));
    case 'bf16':
      return bf16ToF32Array(new Uint16Array(buffer));
    default:
      return dtype satisfies never;
  }
}
