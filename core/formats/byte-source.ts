/** ByteSource: random access to one file's bytes, wherever it lies: disk, S3, the Hub, memory. */

export interface ByteSource {
  /** What errors call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Bytes [offset, offset + length). May come back short only when the file ends early; callers check the length. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Announces which ranges will be read next, in this order, so that a source far away can begin. Only a hint. */
  expect?(ranges: readonly ByteRange[]): void;
}

export interface ByteRange {
  offset: number;
  length: number;
}

/** A file that is already in memory. Reads are views of it, not copies. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.size = bytes.byteLength;
    this.#bytes = bytes;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return this.#bytes.subarray(offset, offset + length);
  }
}
