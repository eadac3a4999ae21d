/** TensorReader: the tensors of one module of a checkpoint, each read only after its dtype and shape are right. */
import { NibbleError } from '../errors.ts';
import type { CheckpointFiles } from './checkpoint-index.ts';
import { type FloatDtype, floatsIn } from './floats.ts';
import { f16ToF32, f32ToF16Array } from './half.ts';
import type { Dtype, TensorEntry } from './safetensors-header.ts';

const FLOATS: readonly Dtype[] = ['F16', 'BF16', 'F32'];

/** Of an entry whose dtype is one of FLOATS. */
export function floatDtypeOf({ dtype }: TensorEntry): FloatDtype {
  return dtype === 'F32' ? 'f32' : dtype === 'F16' ? 'f16' : 'bf16';
}

/** A module's tensor: `prefix.part`; in a file that holds a single module, whose prefix is empty, the bare part. */
export function tensorName(prefix: string, part: string): string {
  return prefix === '' ? part : `${prefix}.${part}`;
}

/** Every method throws `file_invalid` with the tensor and the rule it breaks. `asker` ends the sentence about a wrong shape. */
export class TensorReader {
  readonly #checkpoint: CheckpointFiles;
  readonly #prefix: string;
  readonly #asker: string;

  constructor(checkpoint: CheckpointFiles, prefix: string, asker: string) {
    this.#checkpoint = checkpoint;
    this.#prefix = prefix;
    this.#asker = asker;
  }

  has(part: string): boolean {
    return this.#checkpoint.has(this.name(part));
  }

  name(part: string): string {
    return tensorName(this.#prefix, part);
  }

  invalid(part: string, rule: string): NibbleError {
    return new NibbleError({ code: 'file_invalid', file: this.#checkpoint.name, tensor: this.name(part), rule });
  }

  entry(part: string, dtypes: readonly Dtype[], missing = 'is missing'): TensorEntry {
    const entry = this.#checkpoint.tensors.get(this.name(part));
    if (entry === undefined) throw this.invalid(part, missing);
    if (!dtypes.includes(entry.dtype))
      throw this.invalid(part, `has dtype ${entry.dtype} instead of ${dtypes.join(' or ')}`);
    return entry;
  }

  /** [rows, cols] of a matrix. */
  matrix(part: string, entry: TensorEntry): [number, number] {
    const [rows, cols] = entry.shape;
    if (entry.shape.length !== 2 || rows === undefined || cols === undefined)
      throw this.invalid(part, `has ${entry.shape.length} dimensions instead of 2`);
    return [rows, cols];
  }

  /** The tensor's entry, with exactly this shape. */
  shaped(part: string, dtypes: readonly Dtype[], shape: readonly number[]): TensorEntry {
    const entry = this.entry(part, dtypes);
    if (entry.shape.length !== shape.length || entry.shape.some((size, i) => size !== shape[i]))
      throw this.invalid(part, `has shape [${entry.shape.join(', ')}]; ${this.#asker} for [${shape.join(', ')}]`);
    return entry;
  }

  async int32(part: string, shape: readonly number[]): Promise<Int32Array> {
    return new Int32Array(await this.buffer(this.shaped(part, ['I32'], shape)));
  }

  async int8(part: string, shape: readonly number[]): Promise<Int8Array> {
    return new Int8Array(await this.buffer(this.shaped(part, ['I8'], shape)));
  }

  /** Finite f16 bit patterns. Scales in f32 or bf16 are rounded, as text-generation-inference rounds them to the model's dtype. */
  async half(part: string, shape: readonly number[]): Promise<Uint16Array> {
    const entry = this.shaped(part, FLOATS, shape);
    const buffer = await this.buffer(entry);
    const values = entry.dtype === 'F16' ? null : floatsIn(buffer, floatDtypeOf(entry));
    const halves = values === null ? new Uint16Array(buffer) : f32ToF16Array(values);
    const broken = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
    if (broken < 0) return halves;
    const value = values === null ? f16ToF32(halves[broken]!) : values[broken]!;
    throw this.invalid(part, `holds ${entry.dtype} ${value} at ${broken}, which is beyond f16`);
  }

  async float(part: string, shape: readonly number[]): Promise<Float32Array> {
    const entry = this.shaped(part, FLOATS, shape);
    return floatsIn(await this.buffer(entry), floatDtypeOf(entry));
  }

  /** The tensor's bytes in a buffer of their own, aligned for any element; a source's views may start anywhere. */
  async buffer(entry: TensorEntry): Promise<ArrayBuffer> {
    const bytes = await this.#checkpoint.read(entry.name);
    const { buffer, byteOffset, byteLength } = bytes;
    if (buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength) return buffer;
    return bytes.slice().buffer as ArrayBuffer;
  }
}
