/** FileSet: the named files of one model, and the small JSON and text files among them, read under a cap. */
import { NibbleError } from '../errors.ts';
import type { ByteSource } from './byte-source.ts';

export interface FileSet {
  /** The model's directory or address, for errors. */
  readonly name: string;
  /** null when there is no such file. `path` is a plain file name. */
  open(path: string): Promise<ByteSource | null>;
  /** Names of the plain files there; absent where a store cannot tell. */
  list?(): Promise<readonly string[]>;
  /** Set when the model was named by a single .safetensors file rather than by its directory. */
  readonly lone?: ByteSource;
}

/** A whole UTF-8 file; null when it is missing. Throws `file_invalid` over the cap, before anything of it is read. */
export async function readText(files: FileSet, path: string, capBytes: number): Promise<string | null> {
  const source = await files.open(path);
  if (source === null) return null;
  const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file: source.name, tensor: null, rule });
  if (source.size > capBytes) throw invalid(`has ${source.size} bytes, over the ${capBytes} that such a file may have`);
  const bytes = await source.read(0, source.size);
  if (bytes.byteLength !== source.size) throw invalid(`${bytes.byteLength} bytes came back instead of ${source.size}`);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    throw invalid('is not UTF-8');
  }
}

/** A parsed JSON file; null when it is missing and `presence` is optional. Throws `file_missing` or `file_invalid` by name. */
export async function readJson(
  files: FileSet,
  path: string,
  capBytes: number,
  presence: 'required' | 'optional' = 'optional',
): Promise<unknown> {
  const text = await readText(files, path, capBytes);
  if (text === null && presence === 'optional') return null;
  if (text === null) throw new NibbleError({ code: 'file_missing', file: files.name, reason: `there is no ${path}` });
  try {
    return JSON.parse(text);
  } catch (error) {
    const rule = `is not JSON: ${(error as Error).message}`;
    throw new NibbleError({ code: 'file_invalid', file: `${files.name}/${path}`, tensor: null, rule });
  }
}
