/** Safetensors: opens one .safetensors file over a ByteSource and reads its tensors by name. */
import { NibbleError } from '../errors.ts';
import type { ByteSource } from './byte-source.ts';
import { parseHeader, type TensorEntry } from './safetensors-header.ts';

/** The reference implementation's cap (huggingface/safetensors, MAX_HEADER_SIZE); a file over it loads nowhere. */
export const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

export interface SafetensorsFile {
  /** Its source's name. */
  readonly name: string;
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  /** All bytes of one tensor, little-endian, row-major. Throws `file_invalid` when it is absent or the source falls short. */
  read(name: string): Promise<Uint8Array>;
  /** `length` bytes from `offset` within the tensor. */
  readRange(name: string, offset: number, length: number): Promise<Uint8Array>;
  /** Announces that these tensors will be read next, in this order. Names that are not here are passed over. */
  expect(names: readonly string[]): void;
}

/** Reads and checks the header; no tensor is touched. Throws `file_invalid` with the rule that is broken. */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const invalid = (tensor: string | null, rule: string) =>
    new NibbleError({ code: 'file_invalid', file: source.name, tensor, rule });
  const readExactly = async (tensor: string | null, offset: number, length: number): Promise<Uint8Array> => {
    const bytes = await source.read(offset, length);
    if (bytes.byteLength !== length)
      throw invalid(tensor, `${bytes.byteLength} bytes came back instead of ${length} from offset ${offset}`);
    // A plain view: of Node's Buffer, slice() would not copy.
    return new Uint8Array(bytes.buffer, bytes.byteOffset, length);
  };

  if (source.size < LENGTH_BYTES)
    throw invalid(
      null,
      `has ${source.size} bytes; a safetensors file starts with an ${LENGTH_BYTES}-byte header length`,
    );
  const prefix = await readExactly(null, 0, LENGTH_BYTES);
  const headerBytes = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (headerBytes > BigInt(MAX_HEADER_BYTES))
    throw invalid(null, `claims a header of ${headerBytes} bytes, over the format's ${MAX_HEADER_BYTES}`);
  const dataBegin = LENGTH_BYTES + Number(headerBytes);
  if (dataBegin > source.size)
    throw invalid(
      null,
      `claims a header of ${headerBytes} bytes but has ${source.size - LENGTH_BYTES} after the length`,
    );

  let text: string;
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    text = decoder.decode(await readExactly(null, LENGTH_BYTES, Number(headerBytes)));
  } catch (error) {
    throw error instanceof NibbleError ? error : invalid(null, 'the header is not UTF-8');
  }
  const { tensors, metadata } = parseHeader(text, source.name, dataBegin, source.size);

  const readRange = async (name: string, offset: number, length: number): Promise<Uint8Array> => {
    const entry = tensors.get(name);
    if (entry === undefined) throw invalid(name, 'is not in this file');
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!inside || offset + length > entry.end - entry.begin)
      throw invalid(name, `bytes [${offset}, ${offset + length}) are outside its ${entry.end - entry.begin}`);
    return length === 0 ? new Uint8Array(0) : readExactly(name, entry.begin + offset, length);
  };
  return {
    name: source.name,
    tensors,
    metadata,
    readRange,
    expect: (names) =>
      source.expect?.(
        names.flatMap((name) => {
          const entry = tensors.get(name);
          return entry === undefined ? [] : [{ offset: entry.begin, length: entry.end - entry.begin }];
        }),
      ),
    read: (name) => readRange(name, 0, (tensors.get(name)?.end ?? 0) - (tensors.get(name)?.begin ?? 0)),
  };
}
