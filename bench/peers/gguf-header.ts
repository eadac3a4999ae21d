/** GgufHeader: key-value pairs and tensor entries of a GGUF file, version 3, little-endian. */

export interface TensorEntry {
  name: string;
  kind: 'q4_0' | 'f32';
  rows: number;
  cols: number;
  bytes: number;
}

const MAGIC = 'GGUF';
const VERSION = 3;
const ALIGNMENT = 32;
/** ggml's type numbers of tensors. */
const TENSOR_TYPES = { f32: 0, q4_0: 2 };
/** GGUF's type numbers of values. */
const TYPES = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 };

export class GgufHeader {
  readonly #pairs: Buffer[] = [];

  text(key: string, value: string): void {
    this.#add(key, TYPES.string, string(value));
  }

  count(key: string, value: number): void {
    this.#add(key, TYPES.uint32, u32(value));
  }

  float(key: string, value: number): void {
    this.#add(key, TYPES.float32, Buffer.from(Float32Array.of(value).buffer));
  }

  texts(key: string, values: readonly string[]): void {
    this.#array(key, TYPES.string, values.length, Buffer.concat(values.map(string)));
  }

  floats(key: string, values: Float32Array): void {
    this.#array(key, TYPES.float32, values.length, Buffer.from(values.buffer));
  }

  integers(key: string, values: Int32Array): void {
    this.#array(key, TYPES.int32, values.length, Buffer.from(values.buffer));
  }

  /** Everything before the tensors' own bytes, which follow in this order, each padded to 32. */
  bytes(tensors: readonly TensorEntry[]): Buffer {
    let offset = 0;
    const entries = tensors.map(({ name, kind, rows, cols, bytes }) => {
      // Innermost dimension first.
      const dimensions = rows === 1 ? [cols] : [cols, rows];
      const entry = [
        string(name),
        u32(dimensions.length),
        ...dimensions.map(u64),
        u32(TENSOR_TYPES[kind]),
        u64(offset),
      ];
      offset += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
      return Buffer.concat(entry);
    });
    const counts = [u32(VERSION), u64(tensors.length), u64(this.#pairs.length)];
    const whole = Buffer.concat([Buffer.from(MAGIC), ...counts, ...this.#pairs, ...entries]);
    return Buffer.concat([whole, Buffer.alloc(-whole.length & (ALIGNMENT - 1))]);
  }

  #add(key: string, type: number, value: Buffer): void {
    this.#pairs.push(Buffer.concat([string(key), u32(type), value]));
  }

  #array(key: string, type: number, length: number, values: Buffer): void {
    this.#add(key, TYPES.array, Buffer.concat([u32(type), u64(length), values]));
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function string(value: string): Buffer {
  const text = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(text.length), text]);
}
