/** Memory: the kernels' linear memory. Permanent blocks at the bottom, one step's blocks above them, freed ones taken again by size. */
import { NibbleError } from '../core/errors.ts';

const PAGE_BYTES = 65536;
/** One page short of 4 GiB, so that no block ends at address 0. */
const MAX_PAGES = 65535;
/** A cache line. */
const ALIGNMENT = 64;

const align = (address: number) => Math.ceil(address / ALIGNMENT) * ALIGNMENT;

export class KernelMemory {
  readonly memory: WebAssembly.Memory;
  readonly #maxPages: number;
  /** The first page belongs to the compiler. */
  #permanentEnd = PAGE_BYTES;
  #top = PAGE_BYTES;
  /** Freed blocks of this step, by their size. */
  readonly #free = new Map<number, number[]>();
  /** Highest address ever given out: what lies above is still zero. */
  #touched = PAGE_BYTES;

  /** `maxBytes` caps growth; by default only the 4 GiB of 32-bit addresses do. Shared: several threads see it. */
  constructor(maxBytes: number = MAX_PAGES * PAGE_BYTES, shared = false) {
    this.#maxPages = Math.min(MAX_PAGES, Math.max(1, Math.floor(maxBytes / PAGE_BYTES)));
    this.memory = new WebAssembly.Memory({ initial: 1, maximum: this.#maxPages, shared });
  }

  /** Bytes that could still be taken. */
  get freeBytes(): number {
    return this.#maxPages * PAGE_BYTES - this.#top;
  }

  /** A block of zeros that stays until the end. A block taken in mid-step lies above that step's, which stay valid. */
  permanent(bytes: number, label: string): number {
    const touched = this.#touched;
    const address = this.#take(bytes, (failed) => ({
      code: 'model_unsupported',
      file: label,
      option: 'memory',
      reason: `needs ${bytes} bytes beside ${failed.usedBytes}; the wasm backend has ${failed.limitBytes}`,
    }));
    this.#permanentEnd = this.#top;
    const dirtyBytes = Math.min(touched, this.#top) - address;
    if (dirtyBytes > 0) this.u8(address, dirtyBytes).fill(0);
    return address;
  }

  /** A block of whatever was there, until `reset` or `free`. */
  step(bytes: number): number {
    return this.#free.get(align(bytes))?.pop() ?? this.scratch(bytes);
  }

  /** Gives back a block of `step`: the next one of its size takes it. */
  free(address: number, bytes: number): void {
    const size = align(bytes);
    const blocks = this.#free.get(size);
    if (blocks === undefined) this.#free.set(size, [address]);
    else if (blocks.includes(address))
      throw new NibbleError({ code: 'internal', reason: `the step's block at ${address} was freed twice` });
    else blocks.push(address);
  }

  /** A block of whatever was there, above all others, until `reset` or `release`. */
  scratch(bytes: number): number {
    return this.#take(bytes, (failed) => ({
      code: 'internal',
      reason: `out of wasm memory: a step needs ${bytes} bytes beside ${failed.usedBytes} of ${failed.limitBytes}; use fewer tokens a step`,
    }));
  }

  /** Frees the step's blocks. */
  reset(): void {
    this.#top = this.#permanentEnd;
    this.#free.clear();
  }

  get mark(): number {
    return this.#top;
  }

  /** Frees what was taken above `mark`: a kernel's scratch. */
  release(mark: number): void {
    this.#top = Math.max(mark, this.#permanentEnd);
  }

  get usedBytes(): number {
    return this.#top;
  }

  // Views are made anew at each use: growing detaches the old buffer.
  u8(address: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, address, length);
  }
  u16(address: number, length: number): Uint16Array {
    return new Uint16Array(this.memory.buffer, address, length);
  }
  u32(address: number, length: number): Uint32Array {
    return new Uint32Array(this.memory.buffer, address, length);
  }
  i32(address: number, length: number): Int32Array {
    return new Int32Array(this.memory.buffer, address, length);
  }
  f64(address: number, length: number): Float64Array {
    return new Float64Array(this.memory.buffer, address, length);
  }
  f32(address: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, length);
  }

  #take(bytes: number, failure: (failed: { usedBytes: number; limitBytes: number }) => NibbleError['failure']): number {
    const start = this.#top;
    const end = align(start + bytes);
    const missingPages = Math.ceil(end / PAGE_BYTES) - this.memory.buffer.byteLength / PAGE_BYTES;
    if (missingPages > 0) {
      const failed = { usedBytes: start, limitBytes: this.#maxPages * PAGE_BYTES };
      if (end > failed.limitBytes) throw new NibbleError(failure(failed));
      try {
        this.memory.grow(missingPages);
      } catch {
        // The host refuses below our own limit: an isolate's cap.
        throw new NibbleError(failure({ ...failed, limitBytes: this.memory.buffer.byteLength }));
      }
    }
    this.#top = end;
    this.#touched = Math.max(this.#touched, end);
    return start;
  }
}
