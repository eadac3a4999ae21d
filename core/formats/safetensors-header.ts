/** Safetensors header: JSON text of a .safetensors file to tensor entries; every rule of the reference implementation checked. */
import { NibbleError } from '../errors.ts';
import { findDuplicateKey } from './json-keys.ts';

/** Bits of one element, by dtype: all that the reference implementation knows (huggingface/safetensors, Dtype::bitsize). */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;
export type Dtype = keyof typeof DTYPE_BITS;

export interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** One past its last byte, counted from the start of the file. */
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The largest published checkpoints (mixture of experts under GPTQ, four tensors a matrix) hold about 200,000. */
export const MAX_TENSORS = 1_000_000;
/** Published names stay below 150 characters; errors and logs repeat the name. */
export const MAX_NAME_CHARS = 1024;
/** PyTorch, which writes most files, allows 64 dimensions. */
const MAX_DIMENSIONS = 64;

/** `file` names the file in errors; `dataBegin` is where the tensors' bytes start in it; `fileSize` where they must end. */
export function parseHeader(text: string, file: string, dataBegin: number, fileSize: number): SafetensorsHeader {
  const invalid = (tensor: string | null, rule: string) =>
    new NibbleError({ code: 'file_invalid', file, tensor, rule });
  if (!text.startsWith('{')) throw invalid(null, 'the header does not start with "{"');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalid(null, `the header is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(json)) throw invalid(null, 'the header is not a JSON object');
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) throw invalid(null, `the header has the key "${shorten(duplicate)}" twice`);

  const names = Object.keys(json);
  if (names.length > MAX_TENSORS) throw invalid(null, `the header lists ${names.length} tensors, over ${MAX_TENSORS}`);
  const dataSize = fileSize - dataBegin;
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') continue;
    if (name.length > MAX_NAME_CHARS)
      throw invalid(shorten(name), `the name has ${name.length} characters, over ${MAX_NAME_CHARS}`);
    entries.push(parseEntry(name, value, dataSize, dataBegin, invalid));
  }
  const tensors = new Map(inByteOrder(entries, dataBegin, fileSize, invalid).map((entry) => [entry.name, entry]));
  // An own property whatever its name, `__proto__` included.
  return { tensors, metadata: parseMetadata(Object.hasOwn(json, '__metadata__') ? json.__metadata__ : {}, invalid) };
}

type Invalid = (tensor: string | null, rule: string) => NibbleError;

function parseMetadata(value: unknown, invalid: Invalid): Readonly<Record<string, string>> {
  if (!isObject(value)) throw invalid(null, '__metadata__ is not an object');
  for (const [key, text] of Object.entries(value))
    if (typeof text !== 'string') throw invalid(null, `__metadata__ "${shorten(key)}" is not a string`);
  // Without a prototype, a key such as "toString" is absent unless the file has it.
  return Object.freeze(Object.assign(Object.create(null), value)) as Readonly<Record<string, string>>;
}

function parseEntry(name: string, value: unknown, dataSize: number, dataBegin: number, invalid: Invalid): TensorEntry {
  if (!isObject(value)) throw invalid(name, 'is not an object with dtype, shape and data_offsets');
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) throw invalid(name, `has the unknown dtype ${shorten(JSON.stringify(dtype) ?? 'undefined')}`);
  if (!Array.isArray(shape) || shape.length > MAX_DIMENSIONS || !shape.every(isCount))
    throw invalid(name, `has a shape that is not a list of at most ${MAX_DIMENSIONS} integers from 0 to 2^53 - 1`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw invalid(name, 'has data_offsets that are not two integers from 0 to 2^53 - 1');
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw invalid(name, `has data_offsets that run backwards: [${begin}, ${end}]`);
  if (end > dataSize)
    throw invalid(name, `has data_offsets [${begin}, ${end}] beyond the ${dataSize} bytes after the header`);
  const bits = bitsOf(shape, DTYPE_BITS[dtype]);
  if (bits === null) throw invalid(name, `has a shape whose size overflows: [${shape.join(', ')}]`);
  if (bits % 8 !== 0) throw invalid(name, `is ${bits} bits of ${dtype}, not a whole number of bytes`);
  if (end - begin !== bits / 8)
    throw invalid(name, `has ${end - begin} bytes; ${dtype} [${shape.join(', ')}] needs ${bits / 8}`);
  return { name, dtype, shape, begin: dataBegin + begin, end: dataBegin + end };
}

/** Tensors must follow one another from the header to the end of the file: no overlap, no gap, nothing behind the last. */
function inByteOrder(entries: TensorEntry[], dataBegin: number, fileSize: number, invalid: Invalid): TensorEntry[] {
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let reached = dataBegin;
  for (const { name, begin, end } of entries) {
    if (begin < reached) throw invalid(name, `overlaps the tensor before it by ${reached - begin} bytes`);
    if (begin > reached) throw invalid(name, `leaves a gap of ${begin - reached} bytes before it`);
    reached = end;
  }
  if (reached !== fileSize) throw invalid(null, `${fileSize - reached} bytes at its end belong to no tensor`);
  return entries;
}

/** null when a partial product passes 2^53 - 1; the reference fails the same way at 2^64. */
function bitsOf(shape: number[], bitsPerElement: number): number | null {
  let bits = bitsPerElement;
  for (const size of shape) {
    bits *= size;
    if (!Number.isSafeInteger(bits)) return null;
  }
  return bits;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(DTYPE_BITS, value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function shorten(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
